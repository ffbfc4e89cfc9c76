"""`frugal prove`: a method's experiment, run in full, and its verdict, committed with everything that made it.

An experiment is a file ``experiments/<domain>/<slug>.py`` of a checkout with one `Experiment` in it.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain, product
from operator import add
from pathlib import Path
from typing import Any, Literal

from frugal.core.errors import BadRun, Clash, UnknownName
from frugal.core.run import write
from frugal.core.stages import Stages
from frugal.core.text import import_file
from frugal.registry import find, recipe, recipe_or_stages

from .compare import folder, plan, summarise
from .runs import Job, run_all

CHECKOUT = Path(__file__).parents[2]
VERDICTS = {"better": "holds", "as good": "holds", "worse": "opposite", "not shown": "not shown"}
SMOKE_SEEDS = 2
TUNING_SEEDS = (100, 101, 102, 103)  # never among those of the experiment


@dataclass(frozen=True)
class Experiment:
    """What is asked, and on what the verdict will rest; written down before the runs."""

    question: str
    arms: tuple[str, ...]  # the baseline, the method, and what is shown beside them
    task: str
    samples: int  # of one run
    expected: str  # the paper's effect
    search: Mapping[str, tuple[Any, ...]]  # settings of the base and the values tried for each arm
    seeds: Sequence[int] = range(8)  # paired: each runs every arm
    rests_on: Literal["samples", "final", "area"] = "samples"  # to target; of the last tenth; under the curve
    metric: str = ""  # of the evaluations; "": the domain's
    larger_is_better: bool = True
    margin: float = 0.0  # the share of the baseline's gain that may be lost where being as good is what is asked
    cost: Literal["samples", "tokens", "steps"] = "samples"  # what is counted to the target; steps of decoding
    tuned_by: str = ""  # another metric, of which more is better; "": the one above
    options: Mapping[str, Any] = field(default_factory=dict)


def experiments(root: Path = CHECKOUT) -> dict[str, Path]:
    """{slug: file} of every experiment of a checkout."""
    return {path.stem.replace("_", "-"): path for path in sorted(root.glob("experiments/*/[!_]*.py"))}


def load(slug: str, root: Path = CHECKOUT) -> Experiment:
    """The experiment of a method. Raises `UnknownName`, or `BadRun` if its file holds none."""
    found = experiments(root)
    if slug not in found:
        raise UnknownName("experiment", slug, found)
    experiment = getattr(import_file(found[slug]), "EXPERIMENT", None)
    if not isinstance(experiment, Experiment) or len(experiment.arms) < 2:
        raise BadRun(f"{found[slug]} holds no experiment: EXPERIMENT = Experiment(...) with two arms or more")
    if experiment.margin and experiment.rests_on == "samples":
        raise BadRun(f"{found[slug]}: a margin is of a score; let the verdict rest on final or area")
    return experiment


def prove(
    slug: str,
    seeds: int = 0,
    scale: Literal["smoke", "full"] = "full",
    processes: int = 0,
    ray: str | None = None,
    watch: Callable[[Sequence[Job]], None] | None = None,
    root: Path = CHECKOUT,
) -> dict[str, Any]:
    """Run the experiment of `slug` and return its result; at full scale, commit-ready in ``results/<domain>/``.

    Finished runs of the same code in ``runs/prove/`` are reused, also those of another method's experiment (a baseline
    and its tuning are run once a task); unfinished ones are resumed.
    """
    experiment, path = load(slug, root), experiments(root)[slug]
    smoke = recipe_or_stages(experiment.arms[0], experiment.task).domain.smoke
    samples = experiment.samples if scale == "full" else min(smoke, experiment.samples)
    chosen = range(seeds or SMOKE_SEEDS) if seeds or scale == "smoke" else experiment.seeds
    out = root / "runs" / ("prove" if scale == "full" else "smoke") / place(experiment, samples)
    began, run = time.time(), partial(run_all, processes=processes, watch=watch, ray=ray)
    arms, tuning = tune(experiment, samples, out, run)
    jobs = plan(experiment.task, arms, samples, chosen, out, dict(experiment.options))
    run(jobs)
    summary = summarise(jobs, experiment.metric, experiment.larger_is_better, experiment.cost)
    asked = json.loads((jobs[0].out / "run.json").read_text())
    judged = summary["arms"][1]["statistics"]
    loss = allowed(summary["arms"][0], experiment)
    if experiment.rests_on != "samples":
        summary["sentences"] = [told(summary, arm, experiment.rests_on, loss) for arm in summary["arms"][1:]]
    result = {
        "slug": slug,
        "domain": path.parent.name,
        "verdict": VERDICTS[word(judged, experiment.rests_on, loss)],
        "rests_on": experiment.rests_on,
        "margin": experiment.margin,
        "scale": f"{size(asked['parameters'])}, {experiment.task}, {samples} samples",
        "sentence": summary["sentences"][0],
        "question": experiment.question,
        "expected": experiment.expected,
        "tuning": tuning,
        "command": f"frugal prove {slug}" + (f" --seeds {seeds}" if seeds else ""),
        "versions": asked["versions"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "seconds": round(sum(_seconds(arm, len(chosen)) for arm in summary["arms"])),
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "statistics": judged,
        **summary,
    }
    if scale == "full":
        from .picture import draw

        target = root / "results" / path.parent.name / f"{slug}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, json.dumps(result, indent=1))
        draw(summary, target.with_suffix(".png"))
    return result


def place(experiment: Experiment, samples: int) -> str:
    """The folder of all runs on one task, with one budget and the same options."""
    options = (f"{k}={v}" for k, v in sorted(experiment.options.items()))
    return folder("-".join([experiment.task, str(samples), *options]))


def tune(
    experiment: Experiment, samples: int, out: Path, run: Callable[[Sequence[Job]], None]
) -> tuple[list[str], str]:
    """Each arm with the settings of the largest area under the curve, by the same search; and what was done, in words.

    Every combination of the values runs with two seeds, then the best two of each arm with two more: where seeds are
    lost at random, two say little of a value, and the best of many values on two seeds is the luckiest.
    """
    sign = 1 if experiment.larger_is_better or experiment.tuned_by else -1

    def measure(texts: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        jobs = plan(experiment.task, texts, samples, seeds, out, dict(experiment.options))
        run(jobs)
        return summarise(jobs, experiment.tuned_by or experiment.metric, sign > 0, experiment.cost)

    def areas(found: Mapping[str, Any]) -> dict[str, float]:
        return {row["recipe"]: sign * row["area_mean"] for row in found["arms"]}

    grid = [dict(zip(experiment.search, values, strict=True)) for values in product(*experiment.search.values())]
    tried = [list(dict.fromkeys(_with(arm, settings, experiment.task) for settings in grid)) for arm in experiment.arms]
    everything = list(chain(*tried))
    first = measure(everything, TUNING_SEEDS[:2])
    area = areas(first)
    best = [sorted(texts, key=area.__getitem__, reverse=True)[:2] for texts in tried]
    again = list(chain(*(texts for texts in best if len(texts) > 1)))
    if again:
        area |= areas(measure(again, TUNING_SEEDS))
    chosen = [max(texts, key=area.__getitem__) for texts in best]
    trials = "; ".join(f"{text}: {sign * area[text]:.3f}" for text in everything)
    ends = [
        f"{text} has {name} at an end of the search"
        for text in chosen
        for name, values in experiment.search.items()
        if len(values) > 2 and _base_args(text, experiment.task).get(name) in (min(values), max(values))
    ]
    searched = ", ".join(f"{name} from {values}" for name, values in experiment.search.items())
    return chosen, (
        f"{searched} for each arm, by the area under the curve of {first['metric']} over two seeds of their own, "
        f"of the best two over four, {2 * (len(everything) + len(again))} runs: {'; '.join([trials, *ends])}"
    )


def _with(arm: str, settings: Mapping[str, Any], task: Any = None) -> str:
    """The recipe, or each stage, with other settings of its base, but for those that clash with a patch."""
    whole = recipe_or_stages(arm, task)
    if isinstance(whole, Stages):
        stages = [replace(s, recipe=recipe(_with(str(s.recipe), settings, s.task or task))) for s in whole.stages]
        return str(Stages(tuple(stages)))
    made, args = find(whole.base.name), dict(whole.base.args)
    for name, value in settings.items():
        try:
            reduce(add, whole.patches, made(**{**args, name: value})).check()
        except Clash:  # a patch sets it, makes it dead, or fills the place that it belongs to
            continue
        args[name] = value
    return str(reduce(add, whole.patches, made(**args)))


def _base_args(text: str, task: Any) -> Mapping[str, Any]:
    """The arguments of a recipe's base; of the first, where there are stages."""
    whole = recipe_or_stages(text, task)
    return dict((whole.stages[0].recipe if isinstance(whole, Stages) else whole).base.args)


def size(parameters: int) -> str:
    """0.7M, or 4.6k of a small controller."""
    return f"{parameters / 1e6:.1f}M" if parameters >= 1e5 else f"{parameters / 1e3:.1f}k"


def allowed(base: Mapping[str, Any], experiment: Experiment) -> float:
    """What an arm may lose and still be as good: the margin's share of what the baseline gains over its start."""
    if not experiment.margin:
        return 0.0
    start = sum(curve[0] for curve in base["curves"]) / len(base["curves"])
    gain = float(base[f"{experiment.rests_on}_mean"]) - start
    return experiment.margin * max(gain if experiment.larger_is_better else -gain, 0.0)


def word(figures: Mapping[str, Any], rests_on: str, loss: float = 0.0) -> str:
    """ "better", "as good" (no more than `loss` behind), "worse" or "not shown", by the figure the verdict rests on."""
    if rests_on == "samples":
        return str(figures["word"])
    low, high = figures[f"{rests_on}_difference_interval"]
    if low is None:
        return "not shown"
    clear = figures[f"{rests_on}_p"] <= 0.05
    if clear and low > 0:
        return "better"
    if loss and low > -loss:
        return "as good"
    return "worse" if clear and high < 0 else "not shown"


def told(summary: Mapping[str, Any], arm: Mapping[str, Any], rests_on: str, loss: float = 0.0) -> str:
    """The plain sentence of an arm where the verdict rests on one score a seed, "final" or "area"."""
    base, figures = summary["arms"][0], arm["statistics"]
    mean, other = (row[f"{rests_on}_mean"] for row in (arm, base))
    low, high = figures[f"{rests_on}_difference_interval"]
    bounds = "no interval" if low is None else f"95% {low:.3g} to {high:.3g}"
    allows = f", {loss:.3g} may be lost" if loss else ""
    beside = ", ".join(f"{name} {y:.3g} and {base['last'][name]:.3g}" for name, y in arm["last"].items())
    return (
        f"{arm['recipe']} {'ended at' if rests_on == 'final' else 'averaged'} {mean:.3g} {summary['metric']}, "
        f"{base['recipe']} {other:.3g} (ahead by {figures[f'{rests_on}_difference']:.3g}, {bounds}, "
        f"{summary['seeds']} seeds{allows}{'; at last ' if beside else ''}{beside}): {word(figures, rests_on, loss)}."
    )


def _seconds(arm: Mapping[str, Any], seeds: int) -> float:
    """Seconds of all runs of an arm, evaluation included; what one process after another would take."""
    ledger = arm["ledger"]
    return seeds * float(ledger["seconds"] + ledger["evaluation.seconds"])
