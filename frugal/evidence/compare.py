"""Arms x seeds, side by side: every figure that a comparison prints, from the curves of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from frugal.core.errors import BadRun
from frugal.core.recipe import Frozen, Recipe
from frugal.core.run import write
from frugal.core.stages import Stages, task_name
from frugal.registry import check_options, host
from frugal.registry import recipe_or_stages as parse

from . import statistics
from .runs import Job, curve, failures, run_all

# of the last evaluation, to be seen whatever the metric
BESIDE = ("greedy", "length", "sampled", "sampled_length", "kl", "accuracy")
COSTS = {"samples": "samples", "tokens": "tokens", "steps": "decoding steps"}  # what may be counted to a target
EVALUATIONS = 40  # a trailing mean of five is then an eighth of the budget


def compare(
    task: Any,
    arms: Sequence[Recipe | Stages | str],
    *,
    samples: int = 4000,
    seeds: int | Sequence[int] = 3,
    out: Path | str = "runs/cmp",
    processes: int = 0,
    ray: str | None = None,
    watch: Callable[[Sequence[Job]], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run every arm with seeds 0 .. seeds-1 and summarise; writes summary.json, report.html and PNGs into `out`.

    The first arm is the baseline. Arms with one seed share start weights, prompts and random numbers as far as the
    methods allow. `options` as in `frugal.run`, `processes` and `ray` as in `run_all`. Runs found
    finished in `out` are reused, unfinished ones resumed.
    Raises `RunFailed` with the name of the run that failed.
    """
    from .report import write_report

    jobs = plan(task, arms, samples, seeds, Path(out), options)
    run_all(jobs, processes, watch, ray)
    summary = summarise(jobs)
    write(Path(out) / "summary.json", json.dumps(summary, indent=1))
    write_report(summary, jobs, Path(out))
    return summary


def plan(
    task: Any,
    arms: Sequence[Recipe | Stages | str],
    samples: int,
    seeds: int | Sequence[int],
    out: Path,
    options: dict[str, Any],
) -> list[Job]:
    """One job for each arm and seed, a seed's arms beside one another. Raises `BadRun` on an empty or doubled grid."""
    recipes = [parse(arm, task) if isinstance(arm, str) else arm for arm in arms]
    texts = [str(recipe) for recipe in recipes]
    if len(set(texts)) < len(texts):
        raise BadRun(f"an arm is given twice: {', '.join(texts)}")
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    if not chosen or not texts:
        raise BadRun(f"{len(texts)} arms and {len(chosen)} seeds; give at least one of each")
    hosts = {text: host(recipe, task).name for text, recipe in zip(texts, recipes, strict=True)}
    if len(set(hosts.values())) > 1:
        where = ", ".join(f"{text} in {domain}" for text, domain in hosts.items())
        raise BadRun(f"all arms of a comparison are measured in one domain, and on {task_name(task)} it is {where}")
    given = Frozen({"threads": 1, "evaluations": EVALUATIONS, **check_options(hosts[texts[0]], options)})
    return [Job(arm, task, samples, s, out / folder(arm) / f"seed-{s}", given) for s in chosen for arm in texts]


def folder(arm: str) -> str:
    """A recipe's text as a folder name."""
    return "".join(c if c.isalnum() or c in "+-.=" else "_" for c in arm)


def summarise(
    jobs: Sequence[Job], metric: str = "", larger_is_better: bool = True, cost: str = "samples"
) -> dict[str, Any]:
    """Curves on one grid, and for every arm the figures of one score a seed and its race against the first arm.

    JSON-ready; infinities are None. A seed whose run failed counts with the untrained score from there on. Without
    `metric` it is the domain's. The grid is one of `cost`, up to the most that a run has spent; a run that has spent
    less stays at its last score.
    """
    domain = host(parse(jobs[0].recipe), jobs[0].task)
    metric = metric or domain.measured(next(iter(curve(jobs[0].out)), {}))
    arms = list(dict.fromkeys(job.recipe for job in jobs))
    first = jobs[0]
    end = first.samples if cost == "samples" else max(line[cost] for job in jobs for line in curve(job.out))
    grid = np.linspace(0, end, first.options["evaluations"] + 1)
    sign = 1 if larger_is_better else -1
    curves = {arm: np.array([_on_grid(job, grid, metric, cost) for job in jobs if job.recipe == arm]) for arm in arms}
    rows = [_arm(arm, [job for job in jobs if job.recipe == arm], grid, curves[arm]) for arm in arms]
    for row in rows[1:]:
        row["statistics"] = _against(grid, sign * curves[arms[0]], sign * curves[row["recipe"]], rows[0], row, sign)
    p = statistics.holm([row["statistics"]["p"] for row in rows[1:]])
    for row, corrected in zip(rows[1:], p, strict=True):
        row["statistics"]["p_holm"] = corrected
    return _finite(
        {
            "task": task_name(first.task),
            "samples": first.samples,
            "seeds": len(jobs) // len(arms),
            "cost": COSTS[cost],
            "unit": domain.unit,
            "metric": domain.title if metric == domain.metric else f"{domain.tested} {metric}",
            "larger_is_better": larger_is_better,
            "grid": grid.tolist(),
            "arms": rows,
            "sentences": [sentence(row, rows[0], COSTS[cost]) for row in rows[1:]],
        }
    )


def sentence(row: dict[str, Any], baseline: dict[str, Any], cost: str) -> str:
    """The plain sentence that a person wants of one arm."""
    s = row["statistics"]
    n = len(row["final"])
    where = f"{row['recipe']} against {baseline['recipe']}"
    if n < 2:
        return f"{where}: one seed, so there is no interval and nothing is shown; give --seeds 5 or more."
    if s["target"] is None:
        return f"{where}: the baseline does not rise, so there is no target to race to; compare the final scores."
    ratio = s["ratio"]
    many = f"{ratio:.2f}x fewer" if ratio >= 1 else f"{1 / ratio:.2f}x more"
    low, high = s["ratio_interval"]
    bound = "at least " if s["restricted"] and ratio < 1 else ""
    return (
        f"{row['recipe']} reached {s['fraction']:g} of {baseline['recipe']}'s gain with {bound}{many} {cost} "
        f"(ratio 95% {low:.2f} to {high:.2f}, {n} seeds{', restricted' if s['restricted'] else ''}): {s['word']}."
    )


def _on_grid(job: Job, grid: np.ndarray, metric: str, cost: str) -> list[float]:
    """A seed's evaluations, read off at the grid's points."""
    lines = curve(job.out)
    if not lines:
        raise BadRun(f"{job.out} has no evaluations; remove it and try again")
    if any(metric not in line for line in lines):
        everywhere = [name for name in lines[0] if all(name in line for line in lines)]
        raise BadRun(
            f"not every evaluation has {metric!r}; choose from {', '.join(everywhere)}, or evaluate only at the start "
            "and at the end (evaluations=1), where samples are drawn too"
        )
    x, y = ([float(line[name]) for line in lines] for name in (cost, metric))
    if failures([job]):
        x, y = [*x, x[-1] + 1], [*y, y[0]]
    return np.interp(grid, x, y).tolist()


def _arm(arm: str, jobs: list[Job], grid: np.ndarray, curves: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"recipe": arm, "curves": curves.round(4).tolist()}
    for name, x in (("final", statistics.final(curves)), ("area", statistics.area(grid, curves))):
        mean, *interval = statistics.mean_interval(x)
        row |= {name: x.tolist(), f"{name}_mean": mean, f"{name}_interval": interval}
    row["final_median"] = float(np.median(row["final"]))
    last = [curve(job.out)[-1] for job in jobs]
    row["last"] = {name: float(np.mean([line[name] for line in last])) for name in BESIDE if name in last[0]}
    spent = [_flat(json.loads((job.out / "ledger.json").read_text())) for job in jobs if _has_ledger(job)]
    row["ledger"] = {column: float(np.mean([one[column] for one in spent])) for column in spent[0]} if spent else {}
    notes = [line["patches"] for job in jobs for line in curve(job.out, "train")]
    paths = sorted({path for note in notes for path in note})
    row["patches"] = {path: float(np.mean([note[path] for note in notes if path in note])) for path in paths}
    row["frontier"] = [_frontier(job) for job in jobs]
    row["failed"] = {str(job.seed): why for job, why in failures(jobs).items()}
    return row


def _frontier(job: Job) -> list[list[float]]:
    """[KL to the start, reward] at every evaluation of a run, where it measures both."""
    return [[line["kl"], line["reward"]] for line in curve(job.out) if {"kl", "reward"} <= line.keys()]


def _against(
    grid: np.ndarray, base: np.ndarray, other: np.ndarray, base_row: dict[str, Any], row: dict[str, Any], sign: int
) -> dict[str, Any]:
    """Every figure of one arm against the baseline; `base` and `other` are curves of which larger is better."""
    headline = statistics.race(grid, base, other)
    found: dict[str, Any] = _race(headline)
    if statistics.final(base).mean() <= base[:, 0].mean():
        found |= {"target": None, "word": "not shown"}
    elif sign < 0:
        found["target"] = -found["target"]
    found["at"] = {str(f): _race(statistics.race(grid, base, other, f)) for f in statistics.FRACTIONS}
    for name in ("final", "area"):
        x, y = sign * np.array(row[name]), sign * np.array(base_row[name])
        difference, *interval = statistics.welch_interval(x, y)
        found[f"{name}_difference"], found[f"{name}_difference_interval"] = difference, interval
        found[f"{name}_p"] = statistics.permutation_p(x, y, paired=len(x) == len(y)) if len(x) > 1 else 1.0
    found["improvement"], found["improvement_p"] = statistics.improvement(
        sign * np.array(row["final"]), sign * np.array(base_row["final"])
    )
    found["detectable"] = statistics.detectable(min(len(base), len(other)))
    found["warnings"] = statistics.warnings(grid, base, other, headline)
    return found


def _race(race: statistics.Race) -> dict[str, Any]:
    values = asdict(race)
    low, high = values.pop("low"), values.pop("high")
    intervals = [statistics.wilson(k, n) for k, n in zip(race.reached, race.seeds, strict=True)]
    return {**values, "ratio_interval": [low, high], "reached_intervals": intervals, "word": race.word}


def _has_ledger(job: Job) -> bool:
    return (job.out / "ledger.json").exists()


def _flat(ledger: dict[str, Any]) -> dict[str, float]:
    """{"tokens": ..., "evaluation.tokens": ...}"""
    evaluation = ledger.pop("evaluation")
    return {**ledger, **{f"evaluation.{name}": value for name, value in evaluation.items()}}


def _finite(value: Any) -> Any:
    """Infinities and NaN as None, which JSON has."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
