"""One card for every published system: what it changes, what it claims, and whether it is built here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import UnknownName
from ..core.recipe import QUESTIONS

KINDS = ("method", "recipe", "system", "study", "theory", "survey")

CARDS = Path(__file__).with_name("cards")
PACKAGE = CARDS.parents[1]
RESULTS = PACKAGE.with_name("results")  # of a checkout; an installed package comes without it

# The C loader reads all cards in 20 ms, the pure Python one in 200 ms.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Card:
    """One published system; `changes` holds the questions it answers anew, none for some surveys."""

    slug: str
    title: str
    year: int
    arxiv: str | None
    kind: str
    changes: tuple[str, ...]
    idea: str
    headline: str
    family: str

    @property
    def domain(self) -> str | None:
        """The subpackage that implements the card, None while it is planned."""
        return _methods(PACKAGE).get(self.slug)

    @property
    def status(self) -> str:
        """ "built" or "planned"."""
        return "built" if self.domain else "planned"

    @property
    def verdict(self) -> str | None:
        """What our own experiment found, None without a committed result."""
        result = RESULTS / (self.domain or "") / f"{self.slug}.json"
        return json.loads(result.read_text("utf-8")).get("verdict") if result.is_file() else None


@cache
def cards() -> dict[str, Card]:
    """Every card by its slug, family by family."""
    return {
        row["slug"]: Card(**row | {"changes": tuple(row["changes"]), "family": path.stem})
        for path in sorted(CARDS.glob("*.yaml"))
        for row in yaml.load(path.read_bytes(), LOADER)
    }


def find(slug: str) -> Card:
    """The card of one system; raises UnknownName."""
    return cards()[_known("system", slug, cards())]


def select(
    family: str | None = None, changes: str | None = None, kind: str | None = None, built: bool | None = None
) -> list[Card]:
    """The cards that meet every condition given; raises UnknownName for a family, question or kind."""
    if family is not None:
        _known("family", family, {card.family for card in cards().values()})
    if changes is not None:
        _known("question", changes, QUESTIONS)
    if kind is not None:
        _known("kind", kind, KINDS)
    return [
        card
        for card in cards().values()
        if family in (None, card.family)
        and (changes is None or changes in card.changes)
        and kind in (None, card.kind)
        and built in (None, card.status == "built")
    ]


def as_row(card: Card) -> dict[str, Any]:
    """The line of a card in a table, ready for JSON."""
    names = ("slug", "title", "year", "arxiv", "family", "kind", "changes", "status", "verdict")
    return {name: getattr(card, name) for name in names} | {"changes": list(card.changes)}


def _known(what: str, name: str, allowed: Iterable[str]) -> str:
    if name not in allowed:
        raise UnknownName(what, name, allowed)
    return name


@cache
def _methods(package: Path) -> dict[str, str]:
    """The domain of every method file, by slug."""
    return {path.stem.replace("_", "-"): path.parts[-3] for path in package.glob("*/methods/[!_]*.py")}
