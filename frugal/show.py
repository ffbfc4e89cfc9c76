"""What the command line shows: progress, tables, cards."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from .catalogue.index import cards, find
from .core import parallel
from .core.recipe import Recipe
from .core.stages import as_stages
from .registry import bases, host, methods, recipe_or_stages

if TYPE_CHECKING:
    from .core.run import Run
    from .evidence.runs import Job

# of several processes the first one shows
out, err = Console(quiet=parallel.rank > 0), Console(stderr=True, quiet=parallel.rank > 0)


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("samples"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
    )


class Progress:
    """A bar over the samples of one run, with the latest scores; is the run's reporter."""

    def __init__(self, samples: int | None, title: str):
        self.bars, self.notes = _bars(), {"train": "", "evaluation": ""}
        self.task = self.bars.add_task(title, total=samples, note="loading")

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    def __call__(self, run: Run, line: dict[str, Any]) -> None:
        training = line["kind"] == "train"
        key = run.domain.progress if training else run.domain.measured(line)
        if key in line:
            self.notes[line["kind"]] = f"{key if training else run.domain.tested} {line[key]:.2f}"
        self.bars.update(
            self.task,
            total=run.budget,
            completed=line["samples"],
            note="  ".join(note for note in self.notes.values() if note),
        )


class Watch:
    """A bar for each arm of a comparison, over the samples of all its seeds, with the latest score."""

    def __init__(self) -> None:
        self.bars = _bars()
        self.arms: dict[str, Any] = {}  # {recipe: its bar, its domain}

    def __enter__(self) -> Watch:
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    def __call__(self, jobs: Sequence[Job]) -> None:
        from .evidence.runs import curve, samples_spent

        for arm in dict.fromkeys(job.recipe for job in jobs):
            mine = [job for job in jobs if job.recipe == arm]
            if arm not in self.arms:
                bar = self.bars.add_task(arm, total=sum(job.samples for job in mine), note="")
                self.arms[arm] = bar, host(recipe_or_stages(arm), mine[0].task)
            bar, domain = self.arms[arm]
            latest = [lines[-1][domain.measured(lines[-1])] for job in mine if (lines := curve(job.out))]
            self.bars.update(
                bar,
                completed=sum(samples_spent(job.out) for job in mine),
                note=f"{domain.tested} {sum(latest) / len(latest):.2f}" if latest else "",
            )


def outcome(run: Run) -> None:
    """Held-out scores before and after, what it cost, what each patch did, where it lies."""
    lines = [line for line in run.curve if line["kind"] == "evaluation"]
    table = Table(run.domain.tested, "before", "after", box=None)
    for name in lines[0]:
        if name not in ("kind", "round", "samples", "tokens", "steps"):
            table.add_row(name, f"{lines[0][name]:.3f}", f"{lines[-1][name]:.3f}")
    out.print(table)
    spent = run.ledger
    also = "".join(f"{getattr(spent, name)} {name.replace('_', ' ')}, " for name in run.domain.spends)
    out.print(
        f"spent: {spent.samples} samples, {also}{spent.seconds:.0f} s (evaluation {spent.evaluation.samples} "
        f"samples, {spent.evaluation.seconds:.0f} s)"
    )
    trained = [line for line in run.curve if line["kind"] == "train"]
    for path in sorted({path for line in trained for path in line["patches"]}):
        values = [line["patches"][path] for line in trained if path in line["patches"]]
        out.print(f"{path}: mean {sum(values) / len(values):.4g}")
    if run.out:
        out.print(f"written to {run.out}: {', '.join(run.domain.files)}")


def comparison(summary: dict[str, Any], written: str) -> None:
    """The sentence for each arm, then final scores: every seed, mean with interval, difference from the first arm."""
    for line in summary["sentences"]:
        out.print(f"[bold]{escape(line)}[/]", highlight=False)
    table = Table(
        title=f"{summary['task']}, {summary['samples']} samples, {summary['seeds']} seeds: final {summary['metric']}",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("recipe", overflow="fold")
    table.add_column("each seed", max_width=20)
    for head in ("mean [95%]", "difference [95%]", "p"):
        table.add_column(head, no_wrap=True)
    for row in summary["arms"]:
        found = row.get("statistics")
        table.add_row(
            row["recipe"],
            " ".join(f"{y:.2f}" for y in row["final"]),
            f"{row['final_mean']:.2f} {_interval(row['final_interval'])}",
            f"{found['final_difference']:+.2f} {_interval(found['final_difference_interval'])}" if found else "",
            f"{found['final_p']:.3f}" if found else "",
        )
    out.print(table)
    for row in summary["arms"]:
        for seed, why in row["failed"].items():
            out.print(f"{row['recipe']}, seed {seed} failed and counts as untrained: {why}", highlight=False)
        for warning in row.get("statistics", {}).get("warnings", ()):
            out.print(f"note on {row['recipe']}: {warning}", highlight=False)
    out.print(written)


def _interval(bounds: list[float | None]) -> str:
    low, high = bounds
    return f"\\[{low:.2f}, {high:.2f}]" if low is not None and high is not None else "(one seed)"


def verdict(result: dict[str, Any]) -> None:
    """The verdict of an experiment with its scale, then its comparison."""
    rests_on = result["cost"] if result["rests_on"] == "samples" else result["rests_on"]
    out.print(f"[bold]{result['slug']}: {result['verdict']}[/] ({result['scale']}), resting on {rests_on}")
    comparison(result, f"tuning: {result['tuning']}")


def describe(name: str, flat: bool) -> None:
    """A card with the head of its method file, or a recipe with its parts."""
    if not flat and name in cards():
        card = find(name)
        out.print(
            f"[bold]{card.slug}[/]  {card.title} ({card.year}"
            f"{', arXiv ' + card.arxiv if card.arxiv else ''})  {card.family}, {card.kind}, {card.status}"
        )
        out.print(textwrap.fill(card.idea, 100))
        out.print(f"paper: {card.headline}", highlight=False)
        if name in methods():
            spec = importlib.util.find_spec(methods()[name])
            assert spec is not None and spec.origin is not None
            out.print(
                "\n" + (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""),
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        return
    if name in bases():
        out.print(f"[bold]{name}[/]  {bases()[name].__doc__}", highlight=False, soft_wrap=True)
    stages = as_stages(recipe_or_stages(name)).stages
    for stage in stages:
        if len(stages) > 1:
            out.print(f"[bold]{escape(str(stage))}[/]", highlight=False)
        parts(stage.recipe)


def parts(whole: Recipe) -> None:
    """Every place of the loop in the order of data flow, with what fills it and whose it is; then the settings."""
    table = Table("part", "owner", "filled with", box=None)
    for place, kind in whole.domain.slots.items():
        filled = {path: part for path, part in whole.parts.items() if path == place or path.startswith(place + ".")}
        for path, part in filled.items():
            table.add_row(path, whole.owner(path), escape(str(part)))
        if not filled:
            table.add_row(f"[dim]{place}", "", f"[dim]nothing: {escape(kind.signature)}")
    out.print(table)
    settings = whole.settings
    out.print("settings: " + ", ".join(f"{f.name}={getattr(settings, f.name)}" for f in dataclasses.fields(settings)))
