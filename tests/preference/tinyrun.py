"""Tasks of a few letters with pairs and an oracle, and runs of the preference loop that a test can look into."""

from typing import Any

import torch

from frugal.core.recipe import Recipe
from frugal.core.run import Run
from frugal.language.policy import Policy
from frugal.language.rows import Rows
from frugal.language.tasks.task import Problem
from frugal.preference import loop
from frugal.preference.evaluate import Evaluation
from frugal.preference.pairs import Pairs
from tests.language.tinyrun import Letters, policy

PAIRS = [("aab", "fc"), ("a", "bcd"), ("dada", "e"), ("aaaa", "bb")]


class Compared(Letters):
    """Responses with more a's are better, surely; every problem has a pair."""

    name = "compared"

    def problems(self, split):
        return [
            Problem(p.prompt, columns=dict(zip(("chosen", "rejected"), PAIRS[i % 4], strict=True)))
            for i, p in enumerate(super().problems(split))
        ]

    def prefer(self, problems, first, second):
        scores = zip(self.score(problems, first), self.score(problems, second), strict=True)
        return [0.5 if a == b else float(a > b) for a, b in scores]


def launch(recipe: Recipe, task: Any = None, net: Policy | None = None, samples: int = 8, **options: Any) -> Run:
    """One run of the loop, on paper if there is no `out`; `run.net` is the trained policy."""
    task, net = task or Compared(), net or policy()
    start = Policy(net.model, net.tokenizer) if net.writes else None
    if start:
        start.freeze_reference()
    evaluation = Evaluation(task, task.max_tokens, options.pop("evaluations", 1), problems=2, k=1, start=start)
    run = Run(samples, options.pop("seed", 0), options.pop("out", None))
    loop.train(recipe, task, net, run, evaluation, **options)
    return run


def pairs_of(rows: Rows, a: list[int], b: list[int], y: list[float]) -> Pairs:
    return Pairs(rows, torch.tensor(a), torch.tensor(b), torch.tensor(y))
