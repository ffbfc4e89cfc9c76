"""Held-out evaluation: greedy accuracy and pass@k. Training does not notice: own random numbers, own ledger column."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from frugal.core.run import Run

from .policy import Policy
from .rollout import Sampler, judge
from .rows import Ask
from .tasks.task import Task

SOLVED = 1.0 - 1e-6


@dataclass(frozen=True)
class Evaluation:
    """At the start, at the end and at `times` - 1 points between, on one grid in samples for every arm."""

    task: Task
    limit: int  # most tokens of a response
    times: int = 10
    problems: int = 64
    k: int = 4  # samples a problem, for pass@k

    def when_due(self, net: Policy, run: Run, last: bool = False) -> None:
        """Evaluate and log if the run has passed the next point of the grid."""
        done = [line["samples"] for line in run.curve if line["kind"] == "evaluation"]

        def point(samples: int) -> int:
            return samples * self.times // run.budget

        if not done or point(run.ledger.samples) > point(done[-1]) or (last and run.ledger.samples > done[-1]):
            run.log("evaluation", **self(net, run))

    @torch.no_grad()
    def __call__(self, net: Policy, run: Run) -> dict[str, float]:
        """{"greedy": accuracy, "score": mean greedy score, "sampled": accuracy, "pass@k": share, "length"}."""
        began, spent = time.monotonic(), run.ledger.evaluation
        temperature, net.temperature = net.temperature, 1.0
        problems = list(self.task.problems("test"))[: self.problems]
        asks = [
            ask
            for g, q in enumerate(problems)
            for prompt in [net.encode(q.prompt)]
            for ask in (Ask(q, prompt, g, greedy=True), Ask(q, prompt, g, n=self.k))
        ]
        rows = Sampler(net, self.task, spent, limit=self.limit)(asks, torch.Generator().manual_seed(run.seed))
        rows = judge(self.task, net, rows, spent)
        net.temperature = temperature
        best, drawn = rows.score.view(len(problems), 1 + self.k).split([1, self.k], dim=1)
        spent.seconds += time.monotonic() - began
        return {
            "greedy": float((best >= SOLVED).float().mean()),
            "score": float(best.mean()),
            "sampled": float((drawn >= SOLVED).float().mean()),
            f"pass@{self.k}": float((drawn >= SOLVED).any(1).float().mean()),
            "length": float(rows.length.view(len(problems), -1)[:, 0].float().mean()),
        }
