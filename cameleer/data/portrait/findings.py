"""What stands out in a file of conversations, in sentences, what needs a look first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cameleer.data.describe import paper_beside
from cameleer.data.portrait.language import NONE, UNSURE
from cameleer.data.portrait.signs import ABOUT
from cameleer.data.portrait.survey import LIMITS, Survey, mean, quantiles

SEEN, FEW = 0.005, 3  # share and number of answers from which a sign is worth a sentence
NAMED = 2048  # tokens: the limit that the sentences speak of, the paper's own


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is a reason to look at the data before training on it."""

    text: str
    look: bool = False


def findings(survey: Survey) -> list[Finding]:
    """Sentences about a file; reasons to look come first, then plain facts."""
    found = [*_size(survey), *_cut(survey), *_repeats(survey), *_shape(survey), *_signs(survey)]
    found += [*_languages(survey), *_asked(survey)]
    return sorted(found, key=lambda one: not one.look)


def share(part: float, whole: float) -> str:
    """A share as people read it: 12 %, 3.4 %, under 0.1 %."""
    value = 100 * part / whole if whole else 0.0
    if 0 < value < 0.1:
        return "under 0.1 %"
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def _size(survey: Survey) -> Iterator[Finding]:
    lengths = survey.lengths
    tokens = sum(n * times for n, times in lengths["conversation"].items())
    learned = sum(n * times for n, times in lengths["learned"].items())
    yield Finding(
        f"{survey.conversations:,} conversations of {tokens:,} tokens; {learned:,} of them "
        f"({share(learned, tokens)}) are learned."
    )
    if len(survey.sources) > 1:
        top = ", ".join(
            f"{name} {share(n, learned)}" for name, n in survey.learned_of.most_common(4)
        )
        more = ", …" if len(survey.sources) > 4 else ""
        yield Finding(
            f"{len(survey.sources)} sources; their shares of what is learned: {top}{more}."
        )
    held = _held_by_longest(survey, 0.1)
    yield Finding(
        f"The longest tenth of conversations holds {share(held, 1)} of what is learned.", held > 0.5
    )
    paper = paper_beside(survey.sources)["paper"]
    if paper and survey.conversations != paper["instances"]:
        part = share(survey.conversations, paper["instances"])
        yield Finding(
            f"The paper's own file has {paper['instances']:,} instances: this one is {part} of it.",
            abs(survey.conversations / paper["instances"] - 1) > 0.05,
        )


def _held_by_longest(survey: Survey, part: float) -> float:
    """Share of the learned tokens in so large a part of the conversations, the longest."""
    lengths = survey.lengths["learned"]
    left, held = part * lengths.total(), 0.0
    for length in sorted(lengths, reverse=True):
        taken = min(left, lengths[length])
        held, left = held + taken * length, left - taken
    return held / max(1.0, sum(n * times for n, times in lengths.items()))


def _cut(survey: Survey) -> Iterator[Finding]:
    at = LIMITS.index(NAMED)
    touched, emptied = int(survey.cut["conversations"][at]), int(survey.cut["emptied"][at])
    longest = quantiles(survey.lengths["conversation"], [1])[0]
    if not touched:
        yield Finding(f"Nothing is cut at {NAMED:,} tokens; the longest has {longest:,}.")
        return
    rendered = survey.lengths["conversation"].total()
    learned = sum(n * times for n, times in survey.lengths["learned"].items())
    text = (
        f"At {NAMED:,} tokens {share(touched, rendered)} of the conversations are cut, and "
        f"{share(survey.cut['learned'][at], learned)} of what could be learned is lost"
    )
    if emptied:
        text += f"; {emptied:,} have nothing left to learn from"
    yield Finding(f"{text}. The longest has {longest:,} tokens.", touched / rendered > 0.01)


def _repeats(survey: Survey) -> Iterator[Finding]:
    whole, _ = survey.repeats["conversation"].counts()
    prompts, _ = survey.repeats["prompt"].counts()
    if not prompts:
        yield Finding("No first prompt comes twice, letter by letter.")
        return
    text = f"{share(prompts, survey.conversations)} of the first prompts ({prompts:,}) came before"
    text += f"; {whole:,} with all that follows" if whole else ", each with another answer"
    yield Finding(f"{text}.", prompts > 0.01 * survey.conversations)


def _shape(survey: Survey) -> Iterator[Finding]:
    rounds = mean(survey.messages) / 2
    several = sum(times for n, times in survey.messages.items() if n > 3)
    on = f"{share(several, survey.conversations)} go on" if several else "none goes on"
    yield Finding(f"{rounds:.1f} rounds on average; {on} after the first answer.")
    said = {
        "no answer at all": "without an answer: nothing is learned from them",
        "ends in a question": "that end in a question which is not answered",
        "begins with an answer": "that begin with an answer",
        "same speaker twice": "with the same speaker twice in a row",
    }
    for name, text in said.items():
        if count := survey.shape[name]:
            part = share(count, survey.conversations)
            yield Finding(f"{part} are conversations ({count:,}) {text}.", True)
    if count := survey.shape["system message"]:
        yield Finding(f"{share(count, survey.conversations)} have a system message.")


def _signs(survey: Survey) -> Iterator[Finding]:
    for name, count in survey.signs.most_common():
        if count >= max(FEW, SEEN * survey.answers):
            part = share(count, survey.answers)
            yield Finding(f"{part} of the answers: {name} ({ABOUT[name]}).", name != "one word")
    code = survey.shape["answers with code"]
    if code >= SEEN * survey.answers:
        yield Finding(f"{share(code, survey.answers)} of the answers look like code.")


def _languages(survey: Survey) -> Iterator[Finding]:
    prompts = survey.languages["prompt"]
    told = {name: n for name, n in prompts.most_common() if name not in (UNSURE, NONE)}
    if not told:
        return
    sure = sum(told.values())
    top = ", ".join(f"{name} {share(n, sure)}" for name, n in list(told.items())[:4])
    untold = prompts[UNSURE] + prompts[NONE]
    rest = f"; {share(untold, survey.conversations)} cannot" if untold else ""
    yield Finding(f"Languages of the first prompts, where they can be told: {top}{rest}.")
    if survey.crossed >= 0.01 * survey.conversations:
        part = share(survey.crossed, survey.conversations)
        yield Finding(f"{part} are answered in another language than they are asked in.", True)


def _asked(survey: Survey) -> Iterator[Finding]:
    told = survey.asked_of["told"]
    if not told:
        return
    pairs = [
        f"“{' '.join(filter(None, pair))}” {share(n, told)}"
        for pair, n in survey.asked.most_common(4)
    ]
    yield Finding(f"Most asked for: {', '.join(pairs)}.")
