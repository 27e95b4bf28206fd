"""What a study may take, in hours, GPU-hours, dollars and requests, and how that is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from cameleer.core.config import Config


@dataclass(frozen=True)
class Cost:
    """hours: of stages, one after the other; gpu_hours: hours times devices, a processor being one;
    dollars: of devices and of what servers charge, at most; requests: to servers."""

    hours: float = 0.0
    gpu_hours: float = 0.0
    dollars: float = 0.0
    requests: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, share: float) -> Cost:
        hours, gpu_hours, dollars = (one * share for one in astuple(self)[:3])
        return Cost(hours, gpu_hours, dollars, round(self.requests * share))

    def at_least(self, other: Cost) -> Cost:
        """The larger of both in everything."""
        return Cost(*map(max, astuple(self), astuple(other)))

    def facts(self) -> dict[str, float]:
        """The same for `--json`."""
        return {name: round(value, 6) for name, value in vars(self).items()}


def total(costs: Iterable[Cost]) -> Cost:
    """All costs together."""
    return sum(costs, start=Cost())


class Budget(Config):
    """The most that a study may take, all resumes together; what is not given is not limited.

    hours: of all stages, one after the other. gpu_hours: hours times devices, a processor being
    one. dollars: of devices, at `price_per_gpu_hour`, and of what servers charge by their engine's
    prices. requests: that servers answer.
    price_per_gpu_hour: in dollars; default: what the GPU typically costs, and nothing for a
    processor.
    """

    hours: NonNegativeFloat | None = None
    gpu_hours: NonNegativeFloat | None = None
    dollars: NonNegativeFloat | None = None
    requests: NonNegativeInt | None = None
    price_per_gpu_hour: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _makes_sense(self) -> Budget:
        if not self.model_fields_set:
            raise ValueError("is empty: give hours, gpu_hours, dollars or requests")
        if self.hours is not None and self.gpu_hours is not None and self.gpu_hours < self.hours:
            raise ValueError(
                f"gpu_hours ({self.gpu_hours:g}) is below hours ({self.hours:g}), which could "
                "never be used up: every hour takes one device at least"
            )
        return self

    def over(self, cost: Cost) -> Iterator[tuple[str, float, float]]:
        """(field, limit, how much more) of every limit that `cost` is over."""
        for name, value in vars(cost).items():
            limit = getattr(self, name)
            if limit is not None and value > limit:
                yield name, limit, value - limit


def shown(field: str, value: float) -> str:
    """An amount as people read it: `3.2 hours`, `$4.10`, `12 requests`."""
    if field == "dollars":
        return f"${value:,.2f}" if value >= 0.01 or not value else f"${value:.2g}"
    if field == "requests":
        return f"{value:,.0f} requests"
    return f"{value:.3g} {field.replace('_', '-').replace('gpu', 'GPU')}"
