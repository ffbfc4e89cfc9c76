"""Settings that change over a run: a schedule maps progress (share of the budget spent, 0 to 1) to a value."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: a function of progress in [0, 1], linear in start and end; prints as its own text."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        raise NotImplementedError

    def __mul__(self, unit: float) -> Self:
        """The schedule in another unit."""
        return replace(self, start=self.start * unit, end=self.end * unit)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, astuple(self)))})"

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


@dataclass(frozen=True, repr=False)
class wave(Schedule):
    """end + (start - end) (1 + cos(2 pi cycles progress)) / 2: from start to end and back, `cycles` times."""

    cycles: float

    def __call__(self, progress: float) -> float:
        return cosine(self.start, self.end)(2 * self.cycles * progress)


SCHEDULES = {"linear": linear, "cosine": cosine, "wave": wave}
