"""`frugal atlas`: one page a system, the list of all with its filters, what is proved, and the documentation."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from frugal.catalogue.index import KINDS, RESULTS, Card, cards
from frugal.core.errors import BadRun
from frugal.core.recipe import QUESTIONS

from . import documentation, words
from .method import all_methods
from .plot import plot
from .results import Result, combined, read_all, read_combinations

HERE = Path(__file__).parent
VERDICTS = ("holds", "not shown", "opposite", "not run")


def build(out: Path | str = "site", results: Path = RESULTS) -> list[str]:
    """Write the site into `out`, over an earlier one; returns what to tell the user, a line each.

    Raises `BadResult` for a file of results that cannot be read, before anything is written.
    """
    out, found, matrices, no_docs = Path(out), read_all(results), read_combinations(results), documentation.missing()
    if out.exists() and not out.is_dir():
        raise BadRun(f"{out} is a file; name a folder for the site")
    if not no_docs:
        documentation.build(out / "docs")
    shutil.copytree(HERE / "static", out / "static", dirs_exist_ok=True)
    (out / "system").mkdir(exist_ok=True)
    for path, html in pages(found, matrices, docs=not no_docs).items():
        (out / path).write_text(html, "utf-8")
    return [f"{out / 'index.html'}: {len(cards())} systems, {len(found)} results", *([no_docs] if no_docs else [])]


def pages(results: dict[str, Result], combinations: list[Any], docs: bool) -> dict[str, str]:
    """{path in the site: HTML}, with links to the documentation if there is one."""

    def verdict(slug: str) -> str:
        return results.get(slug, {}).get("verdict", "not run")  # type: ignore[no-any-return]

    jinja = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    jinja.filters |= {
        "number": words.number,
        "interval": words.interval,
        "prose": words.prose,
        "slug": words.slug,
        "tint": words.tint,
    }
    jinja.globals |= {
        "cards": cards(),
        "built": all_methods(),
        "results": results,
        "together": {slug: combined(result) for slug, result in results.items()},
        "combinations": combinations,
        "verdict": verdict,
        "plot": plot,
        "docs": docs,
    }

    def render(template: str, path: str, **values: Any) -> str:
        return jinja.get_template(template).render(here=path, root="../" * path.count("/"), **values)

    systems = {f"system/{card.slug}.html": card for card in cards().values()}
    return {
        "index.html": render("index.html", "index.html", filters=filters(verdict)),
        "proved.html": render("proved.html", "proved.html"),
        "combinations.html": render("combinations.html", "combinations.html"),
        **{path: render("system.html", path, card=card) for path, card in systems.items()},
    }


def filters(verdict: Callable[[str], str]) -> dict[str, list[tuple[str, int]]]:
    """{filter: [(choice, how many systems have it)]}"""

    def count(choices: Iterable[str], of: Callable[[Card], Iterable[str]]) -> list[tuple[str, int]]:
        counts = Counter(value for card in cards().values() for value in of(card))
        return [(choice, counts[choice]) for choice in choices]

    families = dict.fromkeys(card.family for card in cards().values())
    return {
        "question": count(QUESTIONS, lambda card: card.changes),
        "family": count(families, lambda card: [card.family]),
        "kind": count(KINDS, lambda card: [card.kind]),
        "status": count(("built", "planned"), lambda card: [card.status]),
        "verdict": count(VERDICTS, lambda card: [verdict(card.slug)]),
    }
