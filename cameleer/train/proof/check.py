"""One thing shown: how far it is from what it should be, and how far it may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing shown: how far it is from what it should be, how far it may be, and why so far.

    difference: None if it could not be shown here; `why` says the reason.
    """

    shows: str
    precision: str
    difference: float | None
    tolerance: float
    why: str

    @property
    def passed(self) -> bool | None:
        """None if it was not shown."""
        return None if self.difference is None else bool(self.difference <= self.tolerance)

    def to_row(self) -> dict[str, Any]:
        """As JSON values; a difference that is not a number is told as text."""
        told = self.difference
        if told is not None and not math.isfinite(told):
            return {**asdict(self), "difference": str(told), "passed": self.passed}
        return {**asdict(self), "passed": self.passed}


def shown(check: Check) -> dict[str, Any]:
    """A line of the table."""
    words = {True: "pass", False: "FAIL", None: "not shown"}
    return {
        "": words[check.passed],
        "what": check.shows,
        "in": check.precision,
        "difference": "" if check.difference is None else f"{check.difference:.2g}",
        "at most": f"{check.tolerance:.2g}",
        "measured as": check.why,
    }
