"""Which patches add to one another: a base with each patch alone and with each pair of them, over paired seeds.

A seed's saving is the logarithm of how many times fewer samples it takes to the base's target. Savings that have
nothing to do with each other add up: twice and three times fewer alone are six times fewer together. The interaction
of a pair is its saving minus those of the two alone, a seed at a time; its t-interval is corrected for the number of
pairs (Bonferroni), since in a large matrix one of them would always stand out. A seed that does not reach the target
is charged the budget, which flatters it: no interaction is claimed that this alone could make.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from frugal.core.errors import BadRun, Clash
from frugal.core.run import write
from frugal.registry import recipe

from . import statistics
from .compare import compare, folder
from .runs import Job

NOTHING = "no interaction shown"


def combine(
    base: str,
    patches: Sequence[str],
    tasks: Sequence[str],
    *,
    samples: int = 4000,
    seeds: int = 3,
    out: Path | str = "runs/combine",
    processes: int = 0,
    ray: str | None = None,
    watch: Callable[[Sequence[Job]], None] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """One matrix a task, of `patches` as they stand in recipes; writes combinations.json and a PNG each into `out`.

    Each task's runs lie in a folder of its own with the report of a comparison. A pair that clashes is not run, and
    its message is kept. Raises `BadRun` for fewer than two patches.
    """
    if len(patches) < 2:
        raise BadRun(f"{len(patches)} patches; a combination takes two or more")
    out, found = Path(out), []
    for task in tasks:
        alone = {p: str(recipe(f"{base}+{p}", task)) for p in patches}
        pairs = {(a, b): _together(base, a, b, task) for a, b in combinations(patches, 2)}
        arms = [str(recipe(base, task)), *alone.values(), *(arm for arm, clash in pairs.values() if not clash)]
        place = out / folder(task)
        summary = compare(
            task, arms, samples=samples, seeds=seeds, out=place, processes=processes, ray=ray, watch=watch, **options
        )
        found.append(matrix(summary, alone, pairs))
        asked = [base, *patches, "--on", task, "--samples", str(samples), "--seeds", str(seeds)]
        found[-1]["command"] = shlex.join(["frugal", "combine", *asked])
        if found[-1]["target"] is not None:
            draw(found[-1], place / "combinations.png")
    write(out / "combinations.json", json.dumps(found, indent=1))
    return found


def _together(base: str, a: str, b: str, task: str) -> tuple[str, str]:
    """The recipe with both patches, or why there is none."""
    try:
        return str(recipe(f"{base}+{a}+{b}", task)), ""
    except Clash as clash:
        return "", str(clash)


def matrix(
    summary: Mapping[str, Any], alone: Mapping[str, str], pairs: Mapping[tuple[str, str], tuple[str, str]]
) -> dict[str, Any]:
    """What each patch and each pair saves, and the interaction of each pair, JSON-ready; see the head of this file."""
    first = summary["arms"][0]
    race = summary["arms"][1]["statistics"]
    found: dict[str, Any] = {name: summary[name] for name in ("task", "samples", "seeds", "metric")}
    found |= {"base": first["recipe"], "fraction": race["fraction"], "target": race["target"]}
    if race["target"] is None:
        return found | {"alone": {}, "pairs": []}
    sign = 1 if summary["larger_is_better"] else -1
    times = {
        row["recipe"]: statistics.samples_to(summary["grid"], sign * np.array(row["curves"]), sign * race["target"])
        for row in summary["arms"]
    }
    reached = {arm: bool((taken < summary["samples"]).all()) for arm, taken in times.items()}
    saved = {arm: np.log(times[first["recipe"]] / taken) for arm, taken in times.items()}
    found["times"] = {arm: taken.tolist() for arm, taken in times.items()}  # a seed each; the budget: not reached
    found["alone"] = {patch: {"recipe": arm, **_saving(saved[arm])} for patch, arm in alone.items()}
    level = 1 - 0.05 / max(1, sum(not clash for _, clash in pairs.values()))
    found["pairs"] = []
    for (a, b), (arm, clash) in pairs.items():
        pair: dict[str, Any] = {"patches": [a, b]}
        found["pairs"].append(pair)
        if clash:
            pair["clash"] = clash
            continue
        pair |= {"recipe": arm, **_interaction(saved[arm], saved[alone[a]], saved[alone[b]], level)}
        # a seed that never reaches the target is charged the budget, which is too little
        pair["restricted"] = not all(reached[each] for each in (first["recipe"], alone[a], alone[b], arm))
        bound = (first["recipe"], arm) if pair["word"] == "compound" else (alone[a], alone[b])
        if not all(reached[each] for each in bound):
            pair["word"] = NOTHING
    return found


def _saving(log: np.ndarray) -> dict[str, Any]:
    """How many times fewer samples, the geometric mean over seeds [n], with its interval."""
    mean, low, high = statistics.mean_interval(log)
    return {"ratio": math.exp(mean), "interval": _exp(low, high)}


def _interaction(both: np.ndarray, one: np.ndarray, other: np.ndarray, level: float) -> dict[str, Any]:
    """Of a pair and its two patches, from what each seed saves [n]."""
    mean, low, high = statistics.mean_interval(both - one - other, level)
    if low <= 0 <= high:
        word = NOTHING
    elif low > 0:
        word = "compound"
    else:
        word = "cancel" if both.mean() < max(one.mean(), other.mean()) else "overlap"
    return {
        **_saving(both),
        "expected": math.exp(one.mean() + other.mean()),
        "interaction": math.exp(mean),
        "interaction_interval": _exp(low, high),
        "word": word,
    }


def _exp(low: float, high: float) -> list[float | None]:
    return [math.exp(low), math.exp(high)] if math.isfinite(low) else [None, None]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """A line for each pair, as a person wants it."""
    if found["target"] is None:
        return [f"{found['base']} does not rise on {found['task']}, so there is no target to race to; more samples?"]
    lines = []
    for pair in found["pairs"]:
        a, b = pair["patches"]
        if "clash" in pair:
            lines.append(f"{a} and {b} clash: {pair['clash']}")
            continue
        low, high = pair["interaction_interval"]
        bounds = "one seed" if low is None else f"95% {low:.2f} to {high:.2f}"
        lines.append(
            f"{a} and {b}: {pair['ratio']:.2f}x fewer samples together, {found['alone'][a]['ratio']:.2f}x and "
            f"{found['alone'][b]['ratio']:.2f}x alone, so {pair['expected']:.2f}x were to be expected "
            f"(interaction {pair['interaction']:.2f}, {bounds}{', restricted' if pair['restricted'] else ''}): "
            f"{pair['word']}."
        )
    return lines


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A PNG: on the diagonal what each patch saves alone, above it each pair, below it what was to be expected."""
    from matplotlib.figure import Figure

    names = list(found["alone"])
    ratio = np.diag([found["alone"][name]["ratio"] for name in names])
    text = np.array([[f"{x:.2f}x" if x else "clash" for x in row] for row in ratio], object)
    for pair in found["pairs"]:
        if "clash" not in pair:
            i, j = sorted(map(names.index, pair["patches"]))
            ratio[i, j], ratio[j, i] = pair["ratio"], pair["expected"]
            text[i, j] = f"{pair['ratio']:.2f}x" + (f"\n{pair['word']}" if pair["word"] != NOTHING else "")
            text[j, i] = f"({pair['expected']:.2f}x)"
    log = np.log(np.where(ratio > 0, ratio, 1))
    most = max(math.log(2), abs(log).max())
    figure = Figure(figsize=(3.6 + 1.1 * len(names), 1.6 + 0.7 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(log, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    for (i, j), word in np.ndenumerate(text):
        color = "white" if abs(log[i, j]) > 0.6 * most else "black"
        axes.text(j, i, word, ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks(range(len(names)), names)
    figure.suptitle(
        f"{found['task']}: times fewer samples than {found['base']}, {found['seeds']} seeds\n"
        "diagonal: alone; above: together; below: to be expected of the two",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
