"""Arms x seeds, side by side: every run in its own process and directory, reused when it is already there."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frugal.core.errors import BadRun, RunFailed
from frugal.core.recipe import Recipe
from frugal.core.run import write
from frugal.core.stages import Stages
from frugal.registry import recipe_or_stages as parse

from .statistics import mean_interval, welch_interval

METRIC = "greedy"  # held-out greedy accuracy


@dataclass(frozen=True)
class Job:
    """One arm with one seed."""

    arm: str
    seed: int
    out: Path


def compare(
    task: Any,
    arms: Sequence[Recipe | Stages | str],
    *,
    samples: int = 4000,
    seeds: int = 3,
    out: Path | str = "runs/cmp",
    processes: int | None = None,
    watch: Callable[[dict[Job, int]], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run every arm with seeds 0 .. seeds-1 and summarise; writes summary.json and curves.png into `out`.

    The first arm is the baseline. Arms with one seed share start weights, prompts and random numbers as far as the
    methods allow. `options` as in `frugal.run`. Runs found finished in `out` are reused, unfinished ones resumed.
    Raises `RunFailed` with the name of the run that failed.
    """
    texts = [str(parse(arm) if isinstance(arm, str) else arm) for arm in arms]
    if len(set(texts)) < len(texts):
        raise BadRun(f"an arm is given twice: {', '.join(texts)}")
    if seeds < 1:
        raise BadRun(f"seeds={seeds}; give at least 1")
    out = Path(out)
    jobs = [Job(arm, seed, out / folder(arm) / f"seed-{seed}") for seed in range(seeds) for arm in texts]
    errors = _run_all(jobs, task, samples, processes or os.cpu_count() or 1, watch, options)
    if errors:
        raise RunFailed("\n".join(errors))
    summary = summarise(texts, seeds, out, task=task if isinstance(task, str) else task.name, samples=samples)
    write(out / "summary.json", json.dumps(summary, indent=2))
    from .picture import draw

    draw(summary, out / "curves.png")
    return summary


def folder(arm: str) -> str:
    """A recipe's text as a folder name."""
    return "".join(c if c.isalnum() or c in "+-.=" else "_" for c in arm)


def _run_all(
    jobs: list[Job], task: Any, samples: int, processes: int, watch: Any, options: dict[str, Any]
) -> list[str]:
    """Run the jobs, at most `processes` at a time with one thread each; returns what went wrong, in words."""
    options = {"threads": 1, **options}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        futures: dict[Future[str | None], Job] = {
            pool.submit(_run_one, job.arm, task, samples, job.seed, job.out, options): job for job in jobs
        }
        try:
            while any(not future.done() for future in futures):
                time.sleep(0.3)
                if watch:
                    watch({job: samples_spent(job.out) for job in jobs})
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
        return [f"{job.arm}, seed {job.seed}: {future.result()}" for future, job in futures.items() if future.result()]


def _run_one(arm: str, task: Any, samples: int, seed: int, out: Path, options: dict[str, Any]) -> str | None:
    """In a worker: run, resume or reuse. Returns an error as text, since not every exception travels."""
    import signal

    from frugal.api import resume, run
    from frugal.core.errors import FrugalError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    try:
        if not (out / "run.json").exists():
            run(arm, task, samples=samples, seed=seed, out=out, **options)
            return None
        before = json.loads((out / "run.json").read_text())
        if (before["recipe"], before["samples"]) != (arm, samples):
            return f"{out} holds another run ({before['recipe']}, {before['samples']} samples); choose another --out"
        if not (out / "model").exists():
            resume(out, task=None if isinstance(task, str) else task)
    except FrugalError as error:
        return str(error)
    return None


def curve(out: Path, kind: str = "evaluation") -> list[dict[str, Any]]:
    """The lines of one kind of a run's curve."""
    path = out / "curve.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def samples_spent(out: Path) -> int:
    """Samples that a run has spent so far, read from its curve."""
    lines = curve(out, "train")
    return lines[-1]["samples"] if lines else 0


def summarise(arms: list[str], seeds: int, out: Path, **about: Any) -> dict[str, Any]:
    """Curves, final score, area under the curve and the difference from the first arm, every seed listed."""
    rows: list[dict[str, Any]] = []
    for arm in arms:
        runs = [out / folder(arm) / f"seed-{seed}" for seed in range(seeds)]
        curves = [[(line["samples"], line[METRIC]) for line in curve(run)] for run in runs]
        final = [float(np.mean([y for _, y in points[-max(1, len(points) // 10) :]])) for points in curves]
        area = [
            float(np.trapezoid([y for _, y in points], [x for x, _ in points]) / (points[-1][0] or 1))
            for points in curves
        ]
        rows.append(
            {
                "arm": arm,
                "curves": curves,
                "final": final,
                "area": area,
                "ledger": [json.loads((run / "ledger.json").read_text()) for run in runs],
                "patches": [curve(run, "train")[-1]["patches"] for run in runs],
            }
        )
    for row in rows:
        for name in ("final", "area"):
            row[f"{name}_mean"], *row[f"{name}_interval"] = _finite(mean_interval(row[name]))
            row[f"{name}_difference"], *row[f"{name}_difference_interval"] = _finite(
                welch_interval(row[name], rows[0][name])
            )
    return {**about, "seeds": seeds, "metric": f"held-out {METRIC} accuracy", "arms": rows}


def _finite(interval: tuple[float, float, float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in interval]
