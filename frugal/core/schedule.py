"""Settings that change over a run: a schedule maps progress (share of the budget spent, 0 to 1) to a value."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: a function of progress in [0, 1]; prints as the text that rebuilds it."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.start!r}, {self.end!r})"

    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True, repr=False)
class linear(Schedule):
    """start + (end - start) progress."""

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True, repr=False)
class cosine(Schedule):
    """end + (start - end) (1 + cos(pi progress)) / 2."""

    def __call__(self, progress: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES = {"linear": linear, "cosine": cosine}
