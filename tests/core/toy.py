"""A small domain without torch, on which the algebra of recipes is tested."""

from dataclasses import dataclass
from typing import Any

from frugal.core.recipe import Domain, Many, One, Patch, Recipe


@dataclass(frozen=True)
class Range:
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Value:
    x: float = 0.0


@dataclass(frozen=True)
class Wrapper:
    x: float = 0.0
    inner: Any = None


@dataclass(frozen=True)
class Needing:
    column: str
    inner: Any = None

    @property
    def needs(self):
        return {"now.thing": self.column}


@dataclass(frozen=True)
class Settings:
    size: Any = 1
    rate: Any = 0.1


TOY = Domain(
    "toy",
    {
        "start.keep": Many("all", "(x) -> bool"),
        "credit.advantage": One("(x) -> y"),
        "credit.rewards": Many("sum", "(x) -> y"),
        "learn.clip": One("(x) -> y"),
        "update.extra": Many("union", "(x) -> y"),
        "update.weights": Many("product", "(x) -> y"),
    },
    Settings,
)
FILLED = {"credit.advantage": Value(), "learn.clip": Range()}


def base(explicit=(), **fields) -> Recipe:
    fields = {"fill": FILLED, **fields}
    return Recipe(TOY, Patch(domain="toy", name="plain", **fields), frozenset(explicit))


def patch(name: str, **fields) -> Patch:
    return Patch(domain="toy", name=name, **fields)
