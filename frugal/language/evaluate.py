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
    """At the start, at the end and at `times` - 1 points between, on one grid in samples for every arm.

    Greedy at every point; the `k` samples a problem only at the start and at the end, since they cost k times as much.
    """

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
            found = self(net, run, self.k if last or not done else 0)
            run.log("evaluation", tokens=run.ledger.tokens, steps=run.ledger.steps, **found)

    @torch.no_grad()
    def __call__(self, net: Policy, run: Run, k: int) -> dict[str, float]:
        """Means over greedy answers ("greedy": share solved, "score", "length") and, with k, over samples.

        Those are "sampled" (share solved), "pass@k", "sampled_length" and "tokens_to_solve": the length of a sample
        that solves its problem and twice the limit for one that does not, as in the PAR-2 score of the SAT
        competitions. It is what length methods want small, and giving up on accuracy does not make it so.
        """
        began, spent = time.monotonic(), run.ledger.evaluation
        temperature, net.temperature = net.temperature, 1.0
        pool = list(self.task.problems("test"))
        n = min(self.problems, len(pool))
        problems = [pool[i * len(pool) // n] for i in range(n)]  # from all of it: pools are often sorted
        asks = [
            ask
            for g, (q, prompt) in enumerate(zip(problems, net.encode_all([q.prompt for q in problems]), strict=True))
            for ask in (Ask(q, prompt, g, greedy=True), Ask(q, prompt, g, n=k))
        ]
        rows = Sampler(net, self.task, spent, limit=self.limit)(asks, torch.Generator().manual_seed(run.seed))
        rows = judge(self.task, net, rows, spent)
        net.temperature = temperature
        best, drawn = rows.score.view(len(problems), 1 + k).split([1, k], dim=1)
        length, lengths = rows.length.view(len(problems), 1 + k).float().split([1, k], dim=1)
        spent.seconds += time.monotonic() - began
        found = {
            "greedy": float((best >= SOLVED).float().mean()),
            "score": float(best.mean()),
            "length": float(length.mean()),
        }
        if k:
            found["sampled"] = float((drawn >= SOLVED).float().mean())
            found[f"pass@{k}"] = float((drawn >= SOLVED).any(1).float().mean())
            found["sampled_length"] = float(lengths.mean())
            found["tokens_to_solve"] = float(lengths.where(drawn >= SOLVED, 2.0 * self.limit).mean())
        return found
