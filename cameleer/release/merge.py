"""Folding LoRA adapters into their base, so that the model can be given away whole.

The model is loaded whole, in the dtype that it is written in; each changed matrix is rounded once
(`cameleer.model.merge`). What cannot be folded to the very model that was trained is refused.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST, Stage
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, require_outside, sha256_tree
from cameleer.model.adapters import ADAPTER, ADAPTER_CONFIG
from cameleer.model.bnb import bitsandbytes
from cameleer.model.load import load_model, model_fingerprint, model_folder, quiet
from cameleer.release.diff import companions, emptied, require_free
from cameleer.release.tensor_files import read_header

TENSORS = "adapter_model.safetensors"
NOT_FOLDED = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "target_parameters", "layer_replication",
    "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "kasa_config",
    "velora_config", "monteclora_config",
)  # fmt: skip
"""Settings of peft with which a model is not `base + B A`, or not only."""
TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "r": ("a whole number", (int,)),
    "lora_alpha": ("a number", (int, float)),
    "target_modules": ("text or a list", (str, list, type(None))),
    "exclude_modules": ("text or a list", (str, list, type(None))),
    "modules_to_save": ("a list", (list, type(None))),
    "rank_pattern": ("an object", (dict, type(None))),
    "alpha_pattern": ("an object", (dict, type(None))),
    "use_rslora": ("true or false", (bool, type(None))),
}
"""Settings that peft reckons with unlooked at, and what they must be."""
PLAIN_INITS = (True, "gaussian", "orthogonal", False)  # others change the base's own weights
OF_WEIGHTS = {"config.json", "generation_config.json", "README.md", ADAPTER_CONFIG}


@dataclass(frozen=True)
class Adapter:
    """Adapters on disk: their folder, their base as the user calls it, and the run they are of.

    dtype: what the merged weights are written in; computed: what the base was read in while it was
    trained, which rounds it; None: as the base is on disk.
    """

    folder: Path
    base: str
    run: Path | None
    dtype: str | None
    computed: str | None


def adapter_of(folder: Path, base: str | None = None) -> Adapter:
    """The adapters in a peft folder, or in `adapter/` of a training run's.

    base: where their base is, if not where their configuration says. Raises UserError if there are
    none, if they are pickled, or if folding them would not give the model that was trained.
    """
    run = folder if (folder / ADAPTER / ADAPTER_CONFIG).is_file() else None
    own = folder / ADAPTER if run else folder
    if not (own / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"holds no adapter: {ADAPTER_CONFIG} is missing",
            file=folder,
            hint="a run that trained all weights needs no merging",
        )
    weights = own / TENSORS
    if not weights.is_file():
        raise UserError(f"holds no {TENSORS}", file=own, hint="convert it: pickles run code")
    read_header(weights)  # a file that is cut off fits no base, and would blame the base
    said = read_json(own / ADAPTER_CONFIG)
    _require_plain(said, own / ADAPTER_CONFIG)
    trained = _facts(run / MANIFEST if run else None)
    if (trained.get("config") or {}).get("quantization"):
        raise UserError(
            "was trained on a base in 4 bits: folded into the whole base it is another model",
            file=folder,
            hint="this folder holds the merged model already: release that",
        )
    named = base or said.get("base_model_name_or_path")
    if not named:
        raise UserError(
            "does not say its base", file=own / ADAPTER_CONFIG, hint="give --base MODEL"
        )
    written = _facts(run / "config.json" if run else None).get("dtype")
    return Adapter(own, str(named), run, written, (trained.get("outcome") or {}).get("dtype"))


def _facts(file: Path | None) -> dict[str, Any]:
    """What a JSON file says, if it is there and says anything."""
    value = read_json(file) if file and file.is_file() else None
    return value if isinstance(value, dict) else {}


def _require_plain(said: Any, file: Path) -> None:
    if not isinstance(said, dict) or said.get("peft_type") != "LORA":
        kind = said.get("peft_type") if isinstance(said, dict) else None
        raise UserError(f"is of type {kind}, only LORA can be merged", file=file)
    for field, (wanted, types) in TYPES.items():
        if field in said and not _is_a(said[field], types):
            raise UserError(f"is not {wanted}", file=file, field=field)
    for field in NOT_FOLDED:
        if said.get(field):
            raise UserError("such adapters cannot be merged yet", file=file, field=field)
    if said.get("init_lora_weights", True) not in PLAIN_INITS:
        raise UserError(
            "this changes the base's own weights: such adapters cannot be merged yet",
            file=file,
            field="init_lora_weights",
        )


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    """Whether JSON holds one of these; true is no number, and what a list holds is text."""
    if isinstance(value, list) and not all(isinstance(one, str) for one in value):
        return False
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def merge(adapter: Adapter, folder: Path) -> dict[str, Any]:
    """Write base and adapters as one plain model to `folder`; skipped if it is there.

    Returns what the manifest says of it. Raises UserError if the adapters do not fit the base.
    """
    base = model_folder(adapter.base)
    require_outside(folder, adapter.run or adapter.folder, base)
    dtype = _dtype(adapter, base)
    inputs = {"base": model_fingerprint(base), "adapter": sha256_tree(adapter.folder)}
    stage = Stage("merge", folder, {"dtype": dtype}, inputs)
    plain: Any = None

    def work(partial: Path) -> dict[str, Any]:
        emptied(partial)
        note("writing")
        with quiet():
            plain.save_pretrained(partial)
        source = _tokenizer_sources(adapter, base)[0]
        for file in companions(source):
            if file.name not in OF_WEIGHTS and not file.name.endswith(".index.json"):
                (partial / file.relative_to(source)).parent.mkdir(exist_ok=True)
                shutil.copyfile(file, partial / file.relative_to(source))
        return {"base": adapter.base, "dtype": dtype, "parameters": plain.num_parameters()}

    if not stage.done():
        require_free(folder)
        plain = _merged(adapter, base, dtype)
        stage.run(work)
    outcome: dict[str, Any] = read_json(folder / MANIFEST)["outcome"]
    return outcome


def _tokenizer_sources(adapter: Adapter, base: Path) -> list[Path]:
    """Folders that hold a tokenizer: the run's, the adapter's, the base's, in this order."""
    places = [place for place in (adapter.run, adapter.folder) if place]
    return [place for place in places if any(place.glob("tokenizer*"))] + [base]


def _dtype(adapter: Adapter, base: Path) -> str:
    """The dtype to write: what the run wrote, else the base's."""
    config = _facts(base / "config.json")
    named = adapter.dtype or config.get("dtype") or config.get("torch_dtype") or "float32"
    return str(named).removeprefix("torch.")


def _merged(adapter: Adapter, base: Path, dtype: str) -> Any:
    """The plain model, in memory."""
    import torch

    bitsandbytes()  # before peft imports it
    from peft import PeftModel
    from safetensors import SafetensorError

    from cameleer.model.merge import merged

    note(f"reading {base}")
    number: torch.dtype = getattr(torch, dtype)
    model = load_model(base, getattr(torch, adapter.computed or dtype)).to(number)
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(
                model, str(adapter.folder), is_trainable=True, autocast_adapter_dtype=False
            )
    except (ValueError, RuntimeError, KeyError, SafetensorError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _misfit(adapter, " ".join(said[:2]) or type(error).__name__) from None
    except (TypeError, AttributeError) as error:  # peft takes settings of any type, and uses them
        raise UserError(
            f"peft cannot use it: {error}", file=adapter.folder / ADAPTER_CONFIG
        ) from None
    _require_all(adapted, adapter)
    note("merging")
    plain = merged(adapted)
    for parameter in plain.parameters():  # what was trained whole lay there in float32
        parameter.data = parameter.data.to(number)
        parameter.requires_grad_(False)
    return plain


def _require_all(adapted: Any, adapter: Adapter) -> None:
    """Every weight of the adapter's file has its place in the model, and the other way round."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(adapter.folder / TENSORS, framework="numpy") as handle:
        held = set(handle.keys())
    # Not "auto": peft would look for the base on the hub, by the name that the adapters give it.
    placed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if held - placed:  # some are saved with the embeddings
        placed = set(get_peft_model_state_dict(adapted, save_embedding_layers=True))
    if differ := sorted(held ^ placed):
        raise _misfit(adapter, f"{len(differ)} weights have no counterpart, such as {differ[0]}")


def _misfit(adapter: Adapter, why: str) -> UserError:
    return UserError(
        f"does not fit the base {adapter.base}: {why}",
        file=adapter.folder,
        hint="give its own base with --base MODEL",
    )
