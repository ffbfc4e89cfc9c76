"""Numbers of a loop: checked when they are set, and any of them may be a schedule over the run."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from .errors import BadRecipe
from .schedule import Schedule


@dataclass(frozen=True)
class Settings:
    """Base of a loop's settings."""

    counts: ClassVar[tuple[str, ...]] = ()  # whole numbers
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    may_be_none: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[dict[str, tuple[Any, ...]]] = {}  # {setting: its choices} of those that are no numbers

    def __post_init__(self) -> None:
        for name, allowed in self.words.items():
            if getattr(self, name) not in allowed:
                raise BadRecipe(f"{name}={getattr(self, name)!r}; choose from {', '.join(map(str, allowed))}")
        for f in fields(self):
            value = getattr(self, f.name)
            numbers = [value.start, value.end] if isinstance(value, Schedule) else [value]
            for number in numbers:
                if f.name in self.words or (number is None and f.name in self.may_be_none):
                    continue
                if isinstance(number, bool) or not isinstance(number, (int, float)):
                    raise BadRecipe(f"{f.name}={value!r}; give a number or a schedule such as linear(1e-4, 0)")
                if number < 0 or (number == 0 and f.name not in self.may_be_zero):
                    raise BadRecipe(f"{f.name}={value!r}; give a number above 0")

    def at(self, progress: float) -> Self:
        """The settings as numbers at `progress` (0 to 1); counts are rounded."""
        now = {
            f.name: getattr(self, f.name)(progress) for f in fields(self) if isinstance(getattr(self, f.name), Schedule)
        }
        for name in now.keys() & set(self.counts):
            now[name] = max(round(now[name]), 0 if name in self.may_be_zero else 1)
        return replace(self, **now) if now else self
