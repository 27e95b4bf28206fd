"""Cards, filled from manifests: of a model (Hugging Face's README.md) and of a mixture of data.

What no manifest tells is said to be unknown, never guessed. Scores are in points (0 to 100) with
intervals of 95 %; differences to the base are paired by item, p is Holm's over the card.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cameleer.core.artifact import MANIFEST
from cameleer.core.errors import UserError
from cameleer.core.files import read_json, read_text
from cameleer.model.adapters import ADAPTER, ADAPTER_CONFIG
from cameleer.model.embedded import PREFIX
from cameleer.release import markdown as md
from cameleer.release.licences import NONE_STATED, Asks, Check, Part, part, parts_of_mixture
from cameleer.results.stats import Paired, holm, paired
from cameleer.results.store import STUDY, Cell, Evaluation, Study, Train, read_study

UNKNOWN = "not known"
CARD = "README.md"
WITH_CARDS = ("train", "mix", "merge", "diff")
TUNED = f"model/{CARD}"
"""Where a weight diff keeps the tuned model's own card."""
HUB = {
    "mmlu": "cais/mmlu",
    "gsm": "openai/gsm8k",
    "bbh": "lukaemon/bbh",
    "tydiqa": "google-research-datasets/tydiqa",
    "codex_humaneval": "openai/openai_humaneval",
    "truthfulqa": "truthfulqa/truthful_qa",
    "toxigen": "toxigen/toxigen-data",
    "alpaca_eval": "tatsu-lab/alpaca_eval",
}
SAFETY = ("toxigen", "truthfulqa")
PARTS = "licences_of_base_and_data"
IN_DOUBT = {
    ("base", NONE_STATED): "ask, or give `release card` --base-licence",
    ("data", UNKNOWN): "give `release card` --mix",
}
"""What to do about a part without a licence, by its kind and the licence's place."""
RUN = {
    "steps": "optimizer steps",
    "conversations": "conversations",
    "tokens": "tokens",
    "supervised_tokens": "supervised tokens",
    "cut": "conversations cut at the length limit",
    "dropped": "conversations dropped",
    "final_loss": "final loss",
    "device": "device",
    "dtype": "precision of computation",
    "peak_memory_gib": "peak memory, GiB",
    "tokens_per_second": "tokens a second",
}
HubName = Callable[[str], str | None]
"""A source's name on the hub, where its own card gives an address there."""


@dataclass(frozen=True)
class Trained:
    """A model's folder with what is known of it: of a training, of merged adapters, of a weight
    diff. base: as others know it; seeds: of how many models with its base and mixture the study
    knows; base_evals: of the untuned base, by benchmark."""

    train: Train
    mix: Path | None
    base: str | None = None
    about: str = ""
    mixture: str | None = None
    evals: dict[str, Evaluation] = field(default_factory=dict)
    base_evals: dict[str, Evaluation] = field(default_factory=dict)
    seeds: int | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The outcome in the mixture's manifest, or nothing where no mixture is known."""
        return outcome_of(self.mix) if self.mix else {}

    @property
    def kind(self) -> str:
        return str(self.train.manifest.get("kind"))

    @property
    def mark(self) -> str | None:
        """The fingerprint by which evaluations name the model."""
        manifest = self.train.manifest
        mark = manifest["inputs"].get("tuned") if self.kind == "diff" else manifest["fingerprint"]
        return None if mark is None else str(mark)

    @cached_property
    def tuned_card(self) -> dict[str, Any]:
        """The front matter of the tuned model's own card, which a weight diff has with it."""
        file = self.train.folder / TUNED
        return front_of(file) if self.kind == "diff" and file.is_file() else {}

    @cached_property
    def own_base(self) -> str | None:
        """What the folder itself calls the base: its adapters, its manifest or the tuned card."""
        if self.kind == "merge":
            return _text(self.train.outcome.get("base"))
        if self.kind == "diff":
            return _text(self.tuned_card.get("base_model"))
        adapter = self.train.folder / ADAPTER / ADAPTER_CONFIG
        facts = read_json(adapter) if adapter.is_file() else {}
        return _text(facts.get("base_model_name_or_path")) if isinstance(facts, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def kind_of(place: Path) -> str:
    """The kind of the stage in a folder. Raises UserError if it is none that has a card."""
    manifest = place / MANIFEST
    facts = read_json(manifest) if manifest.is_file() else {}
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if kind not in WITH_CARDS:
        hint = (
            "give the folder of `train run`, `release merge`, `release diff` or `mix build`, in a "
            "study train/… or mix/…"
        )
        raise UserError("is no finished training and no mixture", file=place, hint=hint)
    return str(kind)


def front_of(file: Path) -> dict[str, Any]:
    """A card's front matter, empty if it has none. Raises UserError if it is broken."""
    begin, _, rest = read_text(file).partition("---\n")
    try:
        found = yaml.safe_load(rest.partition("\n---")[0]) if not begin else {}
    except yaml.YAMLError:
        raise UserError("its front matter is broken YAML", file=file) from None
    return found if isinstance(found, dict) else {}


def listed_parts(card: Mapping[str, Any], asks: Asks, file: str | Path = CARD) -> list[Part]:
    """Base and data with their licences, as a card's front matter lists them.

    Raises UserError if it is no such list.
    """
    try:
        listed = [(str(a), str(b), str(c)) for a, b, c in card.get(PARTS) or ()]
    except (TypeError, ValueError):
        raise UserError("is no list of name, kind and licence", file=file, field=PARTS) from None
    return [part_of(*one, asks) for one in listed]


def part_of(name: str, kind: str, licence: str, asks: Asks) -> Part:
    """The part of that name; of one without a licence it says what to do, by its kind."""
    found = part(name, kind, licence, asks)
    words = IN_DOUBT.get((kind, licence))
    return replace(found, asks=(words,)) if words else found


def parts_of(model: Trained, base: str | None, licence: str | None, asks: Asks) -> list[Part]:
    """A model's base and data. Data that are not known are a part too: nobody looked at them.

    base, licence: of the base, as far as the user or its name tells them.
    """
    tuned = listed_parts(model.tuned_card, asks, model.train.folder / TUNED)
    said = [one.licence for one in tuned if one.kind == "base"]
    stated = licence or (said[0] if said else NONE_STATED)
    data = parts_of_mixture(model.data) or [one for one in tuned if one.kind == "data"]
    unknown = part_of("the training data", "data", UNKNOWN, asks)
    return [part_of(base or model.base or "the base model", "base", stated, asks)] + (
        data or [unknown]
    )


def outcome_of(mix: Path) -> dict[str, Any]:
    """What a mixture's manifest says came of it."""
    outcome: dict[str, Any] = read_json(mix / MANIFEST)["outcome"]
    return outcome


def read_trained(place: Path, mix: Path | None = None, evals: Sequence[Path] = ()) -> Trained:
    """What is known of a model: from its study, if it stands in one, and from what is given.

    Raises UserError if it was trained on other data, if the evaluations are of another model, or if
    what is given is no mixture and no evaluation.
    """
    for folder in [mix] if mix else []:
        _require_stage(folder, MANIFEST, "--mix", "mixture", "`mix build`")
    for folder in evals:
        _require_stage(folder, "scores.json", "--evals", "evaluation", "`eval run`")
    train = Train(place)
    study, cell = _home(place)
    mix = mix or (cell.mix if cell else None)
    model = Trained(train, mix)
    given = {_label(one): one for one in map(Evaluation, evals)}
    for one in given.values():
        _require_of(one, model)
    trained = train.manifest["inputs"].get("data")
    if mix and model.kind == "train" and read_json(mix / MANIFEST).get("fingerprint") != trained:
        raise UserError(f"is not the data that {place} was trained on", file=mix)
    if study is None or cell is None:
        return replace(model, base=_public(model.own_base), evals=given)
    untuned = study.of(cell.base, None)
    return Trained(
        train,
        mix,
        cell.base,
        study.bases.get(cell.base, ""),
        cell.mixture,
        cell.evals | given,
        untuned[0].evals if untuned else {},
        len(study.of(cell.base, cell.mixture)),
    )


def _require_stage(folder: Path, holds: str, option: str, kind: str, verb: str) -> None:
    """Raise UserError for a file, or a folder in which nothing of this kind was finished."""
    made = all((folder / name).is_file() for name in (MANIFEST, holds))
    facts = read_json(folder / MANIFEST) if made else None
    if not isinstance(facts, dict) or not isinstance(facts.get("outcome"), dict):
        hint = f"give the folder of {verb}"
        raise UserError(f"is no folder of a finished {kind}", file=folder, field=option, hint=hint)


def _public(base: str | None) -> str | None:
    """A base's name if others know it too, on the hub or embedded; a path tells them nothing."""
    known = re.fullmatch(rf"({PREFIX})?\w[\w.-]*(/[\w.-]+)?", base or "")
    return base if base and known and not Path(base).exists() else None


def _home(place: Path) -> tuple[Study | None, Cell | None]:
    """The study that a training stands in, and its cell."""
    for above in place.resolve().parents[:3]:
        if (above / STUDY).is_file():
            study = read_study(above)
            here = place.resolve()
            cells = [c for c in study.cells if c.train and c.train.folder.resolve() == here]
            return (study, cells[0]) if cells else (None, None)
    return None, None


def _label(run: Evaluation) -> str:
    return f"{run.scores['benchmark']}:{run.scores['setting']}"


def _require_of(run: Evaluation, model: Trained) -> None:
    asked = ((run.manifest.get("config") or {}).get("engine") or {}).get("model")
    if asked != model.mark:
        about = f"is an evaluation of another model than {model.train.folder}"
        raise UserError(about, file=run.folder)


def model_card(model: Trained, title: str, base: str | None, check: Check, hub: HubName) -> str:
    """The README.md of a model: front matter as Hugging Face reads it, then the card."""
    manifest = model.train.manifest
    head = _model_front(model, title, base, check, hub)
    base = base or model.base or UNKNOWN
    about = f" ({md.plain(model.about).rstrip('.')})" if model.about else ""
    parts = [
        md.front_matter(head),
        f"# {md.plain(title)}",
        f"{md.plain(base)}{about}, fine-tuned on "
        f"{md.plain(model.mixture or 'instruction data')}"
        f"{_method(model)}.",
        *([_recovery(model)] if model.kind == "diff" else []),
        "## Training data",
        _data_section(model),
        "## Training" if model.kind == "train" else "## How it was made",
        md.pairs(_settings(manifest), ("setting", "value")),
        "## Evaluation",
        _evaluation_section(model),
        "## Input format",
        _template(model),
        "## Limits",
        md.bullets(_limits(model)),
        "## Licence",
        licence_section(check),
        "## To reproduce",
        md.pairs(_origin(manifest), ("what", "which")),
    ]
    return "\n\n".join(parts) + "\n"


def _model_front(
    model: Trained, title: str, base: str | None, check: Check, hub: HubName
) -> dict[str, Any]:
    config = model.train.manifest["config"]
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if model.kind == "diff":  # nothing can load it as it is
        front = {}
    named = base or model.base
    if named and not named.startswith(PREFIX):  # the hub refuses names that are none of its own
        front["base_model"] = named
        front["base_model_relation"] = "finetune"
    names = [hub(name) for name in model.data.get("sources") or {}]
    if known := sorted({name for name in names if name}):
        front["datasets"] = known
    front |= licence_front(check)
    lora = config.get("lora") or model.kind == "merge"
    front["tags"] = ["cameleer", "instruction-tuning", *(["lora"] if lora else [])]
    results = [_result(run) for run in model.evals.values() if run.scored]
    if results:
        front["model-index"] = [{"name": title, "results": results}]
    return front


def licence_front(check: Check) -> dict[str, Any]:
    """Front matter for the licence: one of Hugging Face's names, or "other" and a word on it.

    With the licences of base and data, by which `release push` checks it again.
    """
    name = hub_licence(check.licence)
    front: dict[str, Any] = {"license": name}
    if not _hub_knows(name):
        told = "see-the-licences-of-base-and-data" if name == "other" else _dashed(name)
        front = {"license": "other", "license_name": told}
    if check.parts:
        front[PARTS] = [[one.name, one.kind, one.licence] for one in check.parts]
    return front


def hub_licence(licence: str) -> str:
    """Hugging Face's name of a licence if it has one; else as it is."""
    return name if _hub_knows(name := _dashed(licence)) else licence


def _dashed(licence: str) -> str:
    return re.sub(r"[ _]+", "-", licence.lower())


def _hub_knows(name: str) -> bool:
    known = r"(cc-by(-nc)?(-sa|-nd)?|apache|a?gpl|mit|cc0|odc-by)(-[0-9.]+)?"
    return re.fullmatch(known, name) is not None


def _result(run: Evaluation) -> dict[str, Any]:
    """One entry of model-index; the interval stands in the metric's arguments and name."""
    facts = run.scores
    low, high = (_points(facts[key]) for key in ("low", "high"))
    metric = {
        "type": re.sub(r"[^a-z0-9@]+", "_", str(facts["metric"]).lower()),
        "value": round(100 * facts["value"], 2),
        "name": f"{facts['metric']} (95 % interval {low} to {high}, {facts['n']} items)",
        "args": {key: round(100 * facts[key], 2) for key in ("low", "high")} | {"n": facts["n"]},
    }
    name, setting = facts["benchmark"], facts["setting"]
    about = {"name": f"{name} ({setting}, rule {facts['rule']})", "type": HUB.get(name, name)}
    task = {"type": "text-generation", "name": "Text generation"}
    return {"task": task, "dataset": about, "metrics": [metric]}


def _method(model: Trained) -> str:
    if model.kind == "merge":
        return ", LoRA, merged"
    if model.kind == "diff":
        return ", as a difference to it"
    config = model.train.manifest["config"]
    lora = config.get("lora")
    if not lora:
        return ", all weights"
    how = f" over weights in {config['quantization']}" if config.get("quantization") else ""
    return f", LoRA of rank {lora['r']}{how}, merged"


def _recovery(model: Trained) -> str:
    """What a weight diff is, and where it is told how the model was trained."""
    told = "This is no model: who has the base gives it back with `cameleer release recover`."
    if not model.tuned_card:
        return told
    return f"{told} How it was trained and evaluated stands in [its own card]({TUNED})."


def _template(model: Trained) -> str:
    if model.kind != "train":
        return "The chat template that comes with the tokenizer (`chat_template.jinja`)."
    name = model.train.manifest["config"].get("template", UNKNOWN)
    return (
        f"The chat template `{name}`, which comes with the tokenizer (`chat_template.jinja`); the "
        "model was trained on no other."
    )


def _data_section(model: Trained) -> str:
    if not model.mix and model.kind == "train":
        return "The mixture is not known: the training folder names its fingerprint only (below)."
    if not model.mix:
        return "The mixture is not known."
    counts = model.train.outcome.get("counts") or {}
    table = sources_table(model.data, counts)
    if model.kind == "train":
        return table
    return f"{table}\n\nThat it was trained on this is said by who wrote the card, by no manifest."


def sources_table(outcome: dict[str, Any], counts: dict[str, Any]) -> str:
    """Each source's part of the mixture, and its weight in the loss."""
    sources = outcome.get("sources") or {}
    total = sum(counts.get(f"supervised: {name}", 0) for name in sources)
    measure = str(outcome.get("measure", "characters")).replace("_", " ")
    rows = []
    for name, facts in sources.items():
        learned = counts.get(f"supervised: {name}", 0)
        weight = _percent(learned / total if total else None)
        taken = f"{facts.get('taken', 0):,}"
        shares = [_percent(facts.get(key)) for key in ("share", "answer_share")]
        rows.append([name, taken, *shares, weight, facts.get("licence", UNKNOWN)])
    head = ["source", "conversations", "share", f"share of answers ({measure})"]
    return md.table([*head, "weight in the loss (supervised tokens)", "licence"], rows)


def _settings(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Hyper-parameters, then how the run went and on what."""
    config = {k: v for k, v in manifest["config"].items() if v is not None}
    found = [(f"`{name}`", _value(value)) for name, value in config.items()]
    outcome = manifest["outcome"]
    found += [(label, _value(outcome[key])) for key, label in RUN.items() if key in outcome]
    environment = manifest.get("environment") or {}
    machine = f"{environment.get('platform', UNKNOWN)}, {environment.get('cores', '?')} cores"
    return [*found, ("wall time, seconds", _value(manifest.get("seconds"))), ("machine", machine)]


def _evaluation_section(model: Trained) -> str:
    scored = {label: run for label, run in model.evals.items() if run.scored}
    if not scored:
        return "Not evaluated."
    moved = _differences(scored, model.base_evals)
    rows = []
    for label, run in scored.items():
        facts = run.scores
        value = f"{_points(facts['value'])} [{_points(facts['low'])} to {_points(facts['high'])}]"
        asked = f"rule {facts['rule']}, {facts['format']}"
        better = "lower is better" if run.lower_is_better else ""
        metric = ", ".join(filter(None, (facts["metric"], better)))
        rows.append([label, metric, f"{facts['n']:,}", value, moved.get(label, "–"), asked])
    head = ["benchmark", "metric", "items", "score [95 % interval]"]
    table = md.table([*head, "against the base [95 % interval], p (Holm)", "asked"], rows)
    return f"Scores in points. Differences are paired over the same items.\n\n{table}"


def _differences(scored: dict[str, Evaluation], base: dict[str, Evaluation]) -> dict[str, str]:
    """In words, for every benchmark that the base answered over the same items."""
    found: dict[str, Paired] = {}
    for label, run in scored.items():
        try:
            if label in base:
                found[label] = paired(base[label].items, run.items)
        except UserError:
            continue  # other items: a dash stands in the table
    adjusted = holm([one.p for one in found.values()])
    return {
        label: f"{100 * one.difference:+.1f} [{100 * one.low:+.1f} to {100 * one.high:+.1f}], "
        f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        f"{'' if p < 0.05 else ': no detectable difference'}"
        for (label, one), p in zip(found.items(), adjusted, strict=True)
    }


def _limits(model: Trained) -> list[str]:
    """What a reader must know before use, as far as manifests tell it."""
    outcome, found = model.train.outcome, []
    if model.seeds == 1 or model.seeds is None:
        found.append(
            "One seed: intervals cover the choice of items, not the luck of training, which can "
            "move a score by more."
        )
    if outcome.get("cut") or outcome.get("dropped"):
        found.append(
            f"{outcome.get('cut', 0):,} conversations were cut at the length limit and "
            f"{outcome.get('dropped', 0):,} dropped."
        )
    few = [
        label
        for label, run in model.evals.items()
        if ((run.manifest.get("config") or {}).get("spec") or {}).get("limit")
    ]
    if few:
        found.append(f"Asked on a part of the items only: {', '.join(few)}.")
    known = {label.partition(":")[0] for label in model.evals}
    unasked = [name for name in SAFETY if name not in known]
    if unasked:
        found.append(f"Not measured: {', '.join(unasked)} (toxic and untrue answers).")
    found += [f"About the data: {text}." for text in model.data.get("warnings") or []]
    found.append("It can be wrong, and can repeat what is wrong or harmful in its data.")
    return found


def licence_section(check: Check) -> str:
    """Every part's licence, what they ask together, and what contradicts."""
    rows = [[one.name, one.kind, one.licence, ", ".join(one.asks)] for one in check.parts]
    table = md.table(["part", "kind", "licence", "asks"], rows)
    asked = ", ".join(check.asked) or "nothing that is known here"
    told = [f"Together they ask: {asked}. Stated for this release: {check.licence}."]
    if check.problems:
        told.append("**In doubt or in contradiction:**\n\n" + md.bullets(check.problems))
    told.append("This sorts what the releases state; it is no legal advice.")
    return "\n\n".join([table, *told])


def _origin(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    inputs = {f"{name}, fingerprint": str(mark) for name, mark in manifest["inputs"].items()}
    versions = {
        name: str(version)
        for name, version in (manifest.get("environment") or {}).items()
        if name not in ("platform", "cores")
    }
    made = {"train": "training", "diff": "weight diff"}.get(manifest["kind"], manifest["kind"])
    facts = {f"{made}, fingerprint": manifest["fingerprint"], **inputs, **versions}
    return [(name, f"`{value}`") for name, value in facts.items()]


def data_card(mix: Path, title: str, check: Check) -> str:
    """The README.md of a mixture: front matter of a data set on the hub, then the card."""
    manifest = read_json(mix / MANIFEST)
    outcome = manifest["outcome"]
    head = {
        **licence_front(check),
        "task_categories": ["text-generation"],
        "tags": ["cameleer", "instruction-tuning"],
        "size_categories": [_size(outcome["conversations"])],
        "configs": [{"config_name": "default", "data_files": "conversations.jsonl"}],
    }
    lost = [
        [name, reason.partition(": ")[2], f"{count:,}"]
        for name, facts in outcome["sources"].items()
        for reason, count in facts.items()
        if reason.startswith("dropped: ")
    ]
    files = [(f"`{name}`", f"`{mark}`") for name, mark in manifest["inputs"].items()]
    parts = [
        md.front_matter(head),
        f"# {md.plain(title)}",
        f"{md.plain(outcome.get('about') or 'A mixture of instruction data')}: "
        f"{outcome['conversations']:,} conversations. Each line of `conversations.jsonl` is "
        '`{"id", "source", "messages": [{"role", "content"}]}`.',
        "## Sources",
        sources_table(outcome, {}),
        *(["## Dropped", md.table(["source", "reason", "conversations"], lost)] if lost else []),
        "## Licences",
        licence_section(check),
        *(["## To know", md.bullets(outcome["warnings"])] if outcome.get("warnings") else []),
        "## To reproduce",
        f"Seed {manifest['config'].get('seed')}, fingerprint `{manifest['fingerprint']}`; made "
        "from these files:",
        md.pairs(files, ("file", "sha256")),
    ]
    return "\n\n".join(parts) + "\n"


def _size(conversations: int) -> str:
    """The hub's name of a size."""
    below = ("1K", "10K", "100K", "1M", "10M", "100M")
    for index, name in enumerate(below):
        if conversations < 10 ** (index + 3):
            return f"n<{name}" if index == 0 else f"{below[index - 1]}<n<{name}"
    return "n>100M"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
