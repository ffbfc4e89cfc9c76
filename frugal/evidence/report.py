"""report.html and curves.png: a comparison to look at, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frugal.core.run import write

from .picture import draw, svg
from .runs import Job

SHOWN = 3  # completions of each arm, from its first and from its last table


def write_report(summary: dict[str, Any], jobs: Sequence[Job], out: Path) -> None:
    """Write ``report.html`` and ``curves.png`` into `out`."""
    from jinja2 import Environment, PackageLoader

    draw(summary, out / "curves.png")
    environment = Environment(
        loader=PackageLoader("frugal.evidence", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = figure
    arms = summary["arms"]
    page = environment.get_template("report.html.j2").render(
        **summary,
        picture=svg(summary),
        frontier=svg(summary, frontier=True) if any(any(arm["frontier"]) for arm in arms) else "",
        columns=[column for column in arms[0]["ledger"] if any(arm["ledger"].get(column) for arm in arms)],
        completions={arm["recipe"]: found for arm in arms if (found := _completions(arm, jobs))},
    )
    write(out / "report.html", page)


def figure(value: Any, digits: int = 3) -> str:
    """A number, an interval or nothing, as a reader wants it."""
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return f"{figure(value[0], digits)} to {figure(value[1], digits)}"
    if (isinstance(value, float) and value.is_integer()) or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def _completions(arm: dict[str, Any], jobs: Sequence[Job]) -> list[tuple[str, list[dict[str, Any]]]]:
    """[("at the start", rows), ("at the end", rows)] of the arm's first seed."""
    import pyarrow.parquet

    folder = next(job.out for job in jobs if job.recipe == arm["recipe"]) / "completions"
    tables = sorted(folder.glob("*.parquet"))
    if not tables:
        return []
    first = pyarrow.parquet.read_table(tables[0]).slice(0, SHOWN).to_pylist()
    last = pyarrow.parquet.read_table(tables[-1])
    return [("at the start", first), ("at the end", last.slice(max(0, len(last) - SHOWN)).to_pylist())]
