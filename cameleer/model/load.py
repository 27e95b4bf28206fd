"""Finding a model by what the user calls it, and loading it: folder, hub id, or embedded name."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cameleer.core.artifact import fingerprint_of
from cameleer.core.console import note
from cameleer.core.errors import UserError
from cameleer.model.embedded import EMBEDDED, PREFIX, embedded_folder, get_embedded

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32"]
HUB_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.jinja", "*.txt", "README.md"]


def model_folder(model: str) -> Path:
    """The local folder of MODEL: a folder, a hub id, or `embedded:NAME`, fetched if it must be.

    Raises UserError if there is none, or if it cannot be had.
    """
    if model.startswith(PREFIX):
        name = model.removeprefix(PREFIX)
        folder = embedded_folder(name)
        if not (folder / "manifest.json").is_file():
            get_embedded(name)
        return folder
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError("is no model folder: config.json is missing", file=path)
        return path
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        names = ", ".join(f"embedded:{name}" for name in EMBEDDED)
        raise UserError(
            f"no model '{model}'", hint=f"give a folder, a hub id such as org/name, or {names}"
        )
    return _from_hub(model)


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and only met here

    try:
        return Path(snapshot_download(model, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub's client raises dozens of kinds: all mean "not to be had"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"model '{model}' cannot be fetched from the hub: {reason}",
            hint="check the name and the network, or give a folder",
        ) from None


def model_fingerprint(folder: Path) -> str:
    """What tells two models apart: a stage's fingerprint, the hub's commit, or the files' hash."""
    if folder.parent.name == "snapshots":
        return f"{folder.parent.parent.name}@{folder.name}"
    return fingerprint_of(folder)


def told_name(model: str) -> str:
    """What others can call MODEL by: of a folder in a cache the name that it was fetched by.

    Other folders are called as they are given.
    """
    folder = Path(model).expanduser()
    if folder.name in EMBEDDED and folder == embedded_folder(folder.name):
        return f"{PREFIX}{folder.name}"
    repository = folder.parent.parent.name  # models--ORG--NAME/snapshots/COMMIT
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return model


def load_tokenizer(model: str) -> Any:
    """The fast tokenizer of MODEL; no code that comes with it is run.

    It neither cuts nor pads, whatever its file says: some keep the limits of whoever saved them.
    """
    return _load_tokenizer(model_folder(model))


def _load_tokenizer(folder: Path) -> Any:
    with quiet():
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"no tokenizer can be read: {reason}", file=folder) from None
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_model(
    folder: Path,
    dtype: torch.dtype,
    attention: str | None = None,
    *,
    quantization: Any = None,
    device: torch.device | None = None,
) -> Any:
    """A causal language model in evaluation mode; weights from safetensors only.

    attention: name of an attention implementation, such as `cameleer.model.attention.NAME`.
    quantization: transformers' settings, for weights that are quantised on `device` as they come.
    Raises UserError for a folder that cannot be read, or that lacks some of the weights: what is
    missing would be random numbers.
    """
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            "holds no safetensors weights", file=folder, hint="convert it: pickled weights run code"
        )
    with quiet():
        from transformers import AutoModelForCausalLM

    return load_whole(
        AutoModelForCausalLM,
        folder,
        ("model", "causal language model"),
        dtype=dtype,
        attn_implementation=attention,
        quantization_config=quantization,
        device_map=device and {"": device},
    )


def load_whole(auto: Any, folder: Path, names: tuple[str, str], **options: Any) -> Any:
    """What transformers' class `auto` reads from a folder, in evaluation mode.

    names: what it is, short and in full; options: of `from_pretrained`. Raises UserError for what
    cannot be read, or lacks some of its weights.
    """
    with quiet():
        from safetensors import SafetensorError

        try:
            model, found = auto.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"no {names[0]} can be read: {reason}", file=folder) from None
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"{len(missing)} weights are missing, such as {missing[0]}",
            file=folder,
            hint=f"the folder is not whole, or it is no {names[1]}",
        )
    return model.eval()


def device_and_dtype(precision: Precision) -> tuple[torch.device, torch.dtype]:
    """Where to compute and in what: one GPU if there is one; bf16 where the processor has it."""
    import torch

    if torch.cuda.is_available():
        device, fast = torch.device("cuda"), torch.cuda.is_bf16_supported()
    else:
        device = torch.device("cpu")
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bf16" and not fast:
        note("bf16 is asked for where the processor has no instructions for it: expect it slow")
    bf16 = precision == "bf16" or (precision == "auto" and fast)
    return device, torch.bfloat16 if bf16 else torch.float32


class quiet:  # noqa: N801 (reads as a statement: `with quiet():`)
    """Keep transformers' bars and advice off the terminal; its errors still raise."""

    def __enter__(self) -> None:
        from transformers.utils import logging as theirs

        self.level = logging.getLogger("transformers").level
        self.bars = theirs.is_progress_bar_enabled()  # not, within another `with quiet()`
        theirs.disable_progress_bar()
        theirs.set_verbosity_error()
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: object) -> None:
        from transformers.utils import logging as theirs

        if self.bars:
            theirs.enable_progress_bar()
        theirs.set_verbosity(self.level or logging.WARNING)
        self.warnings.__exit__(None, None, None)
