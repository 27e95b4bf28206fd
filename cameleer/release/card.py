"""Cards, filled from manifests: of a model (Hugging Face's README.md) and of a mixture of data.

What no manifest tells is said to be unknown, never guessed. Scores are in points (0 to 100) with
intervals of 95 %; differences to the base are paired by item, p is Holm's over the card.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cameleer.core.artifact import MANIFEST
from cameleer.core.errors import UserError
from cameleer.core.files import read_json
from cameleer.release import markdown as md
from cameleer.release.licences import Check
from cameleer.results.stats import Paired, holm, paired
from cameleer.results.store import STUDY, Cell, Evaluation, Study, Train, read_study

UNKNOWN = "not known"
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
    """A training folder with what is known of it. seeds: of how many models with its base and
    mixture the study knows; base_evals: of the untuned base, by benchmark."""

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


def kind_of(place: Path) -> str:
    """The kind of the stage in a folder. Raises UserError if it is none that has a card."""
    manifest = place / MANIFEST
    facts = read_json(manifest) if manifest.is_file() else {}
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if kind not in ("train", "mix"):
        hint = "give the folder of `train run` or `mix build`, in a study train/… or mix/…"
        raise UserError("is no finished training and no mixture", file=place, hint=hint)
    return str(kind)


def outcome_of(mix: Path) -> dict[str, Any]:
    """What a mixture's manifest says came of it."""
    outcome: dict[str, Any] = read_json(mix / MANIFEST)["outcome"]
    return outcome


def read_trained(place: Path, mix: Path | None = None, evals: Sequence[Path] = ()) -> Trained:
    """What is known of a training: from its study, if it stands in one, and from what is given.

    Raises UserError if it was trained on other data, or if the evaluations are of another model.
    """
    train = Train(place)
    study, cell = _home(place)
    mix = mix or (cell.mix if cell else None)
    given = {_label(one): one for one in map(Evaluation, evals)}
    for one in given.values():
        _require_of(one, train)
    trained = train.manifest["inputs"].get("data")
    if mix is not None and read_json(mix / MANIFEST).get("fingerprint") != trained:
        raise UserError(f"is not the data that {place} was trained on", file=mix)
    if study is None or cell is None:
        return Trained(train, mix, evals=given)
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


def _require_of(run: Evaluation, train: Train) -> None:
    model = ((run.manifest.get("config") or {}).get("engine") or {}).get("model")
    if model != train.manifest["fingerprint"]:
        raise UserError(f"is an evaluation of another model than {train.folder}", file=run.folder)


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
        f"{_method(manifest['config'])}.",
        "## Training data",
        _data_section(model),
        "## Training",
        md.pairs(_settings(manifest), ("setting", "value")),
        "## Evaluation",
        _evaluation_section(model),
        "## Input format",
        f"The chat template `{manifest['config'].get('template', UNKNOWN)}`, which comes with the "
        "tokenizer (`chat_template.jinja`); the model was trained on no other.",
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
    if base or model.base:
        front["base_model"] = base or model.base
        front["base_model_relation"] = "finetune"
    names = [hub(name) for name in model.data.get("sources") or {}]
    if known := sorted({name for name in names if name}):
        front["datasets"] = known
    front |= licence_front(check)
    front["tags"] = ["cameleer", "instruction-tuning", *(["lora"] if config.get("lora") else [])]
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


def _method(config: dict[str, Any]) -> str:
    lora = config.get("lora")
    if not lora:
        return ", all weights"
    how = f" over weights in {config['quantization']}" if config.get("quantization") else ""
    return f", LoRA of rank {lora['r']}{how}, merged"


def _data_section(model: Trained) -> str:
    if not model.mix:
        return "The mixture is not known: the training folder names its fingerprint only (below)."
    counts = model.train.outcome.get("counts") or {}
    return sources_table(model.data, counts)


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
    facts = {"training, fingerprint": manifest["fingerprint"], **inputs, **versions}
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
