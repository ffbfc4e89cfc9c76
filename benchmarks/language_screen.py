"""The screen by which `frugal-language` was chosen: recipes on two tasks, by the area under the curve.

    python benchmarks/language_screen.py                                  # half an hour on two cores
    python benchmarks/language_screen.py --out results/benchmarks/language_screen.json

Two seeds, of those that experiments tune with, and 2560 samples. The recipes of `THEN` came after the first were seen,
those of `LAST` after these, on the first task alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from frugal.core.run import write
from frugal.evidence.compare import folder, plan, summarise
from frugal.evidence.experiment import TUNING_SEEDS
from frugal.evidence.runs import run_all

FIRST = (
    "grpo(lr=4e-4)",
    "grpo(prompts=4, lr=2e-4)",
    "grpo(prompts=4, lr=4e-4)",
    "grpo(prompts=2, lr=2e-4)",
    "grpo(prompts=8, group=4, lr=2e-4)",
    "grpo(prompts=4, epochs=4, lr=1e-4)",
    "grpo(prompts=4, epochs=4, lr=2e-4)",
    "grpo(prompts=4, epochs=4, lr=1e-4, mean='token')+rec(low=0.6, high=2.0)",
    "grpo(prompts=4, epochs=4, lr=2e-4, mean='token')+rec(low=0.6, high=2.0)",
    "grpo(prompts=8, epochs=4, minibatches=4, lr=1e-4)+rec(variant='weight')",
    "reinforce(prompts=32, group=1, lr=4e-4)",
    "reinforce(prompts=32, group=1, lr=2e-4)",
    "reinforce(prompts=16, group=1, lr=2e-4)",
    "rloo(prompts=4, lr=2e-4)",
    "dr-grpo(prompts=4, lr=4e-4)",
    "grpo(prompts=4, lr=2e-4)+ghpo",
    "grpo(prompts=4, lr=2e-4)+pcl",
)
THEN = (
    "reinforce(prompts=16, group=1, lr=1e-4)",
    "reinforce(prompts=16, group=1, lr=4e-4)",
    "reinforce(prompts=8, group=1, lr=1e-4)",
    "reinforce(prompts=8, group=1, lr=2e-4)",
    "reinforce(prompts=8, group=1, lr=4e-4)",
    "reinforce(prompts=4, group=1, lr=1e-4)",
    "reinforce(prompts=4, group=1, lr=2e-4)",
    "reinforce(prompts=16, group=1, lr=2e-4)+ghpo",
    "reinforce(prompts=16, group=1, lr=2e-4)+pcl",
    "reinforce(prompts=16, group=1, lr=2e-4)+ead",
)
LAST = (
    "reinforce(prompts=8, group=1, lr=8e-4)",
    "reinforce(prompts=4, group=1, lr=4e-4)",
    "reinforce(prompts=4, group=1, lr=8e-4)",
    "reinforce(prompts=2, group=1, lr=2e-4)",
    "reinforce(prompts=2, group=1, lr=4e-4)",
    "reinforce(prompts=8, group=1, lr=4e-4)+ead",
)
SCREEN = {"modchain": FIRST + THEN + LAST, "addtrace": FIRST + THEN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2560)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/screen"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    areas: dict[str, dict[str, float]] = {}
    for task, recipes in SCREEN.items():
        options = {"evaluations": 20, "eval_k": 1}
        jobs = plan(task, recipes, given.samples, TUNING_SEEDS, given.runs / folder(task), options)
        run_all(jobs, given.processes)
        found = {arm["recipe"]: arm["area_mean"] for arm in summarise(jobs)["arms"]}
        areas[task] = dict(sorted(found.items(), key=lambda each: -each[1]))
        print(f"{task}: area under the curve, {len(TUNING_SEEDS)} seeds")
        for recipe, area in areas[task].items():
            print(f"  {area:.3f} {recipe}")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write(given.out, json.dumps({"samples": given.samples, "seeds": TUNING_SEEDS, "areas": areas}, indent=1))


if __name__ == "__main__":
    main()
