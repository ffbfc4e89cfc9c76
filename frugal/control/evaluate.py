"""Evaluation of a policy. Training does not notice: own environments, own random numbers, own ledger column."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from frugal.core.errors import BadTask
from frugal.core.run import Run

from .env import Environments
from .net import Net

LONGEST = 100_000  # steps of an episode, before it is taken for one without end


@dataclass(frozen=True)
class Evaluation:
    """At the start, at the end and at `times` - 1 points between, on one grid in samples for every arm.

    Every time the same episodes, of seeds and tasks that training does not meet.
    """

    env: Environments  # of its own
    times: int = 10
    episodes: int = 10

    def when_due(self, net: Net, run: Run, last: bool = False) -> None:
        """Evaluate and log if the run has passed the next point of the grid."""
        done = [line["samples"] for line in run.curve if line["kind"] == "evaluation"]

        def point(samples: int) -> int:
            return samples * self.times // run.budget

        if not done or point(run.ledger.samples) > point(done[-1]) or (last and run.ledger.samples > done[-1]):
            run.log("evaluation", **self(net, run))

    @torch.no_grad()
    def __call__(self, net: Net, run: Run) -> dict[str, float]:
        """Means over episodes: "return", its "spread" (standard deviation) and "length"."""
        began, spent = time.monotonic(), run.ledger.evaluation
        returns, lengths = play(self.env, lambda obs: net.deploy(net, obs), self.episodes)
        spent.samples += int(lengths.sum())
        spent.episodes += len(lengths)
        spent.seconds += time.monotonic() - began
        return {
            "return": float(returns.mean()),
            "spread": float(returns.std(correction=0)),
            "length": float(lengths.double().mean()),
        }


def play(env: Environments, act: Callable[[Tensor], Tensor], episodes: int) -> tuple[Tensor, Tensor]:
    """Returns and lengths [episodes] of the same episodes at every call.

    Each environment is given its share of them beforehand: were the first to end counted, short ones would be too many.
    Raises `BadTask` if one does not end.
    """
    share = torch.tensor([len(range(row, episodes, env.n)) for row in range(env.n)])
    env.start_over()
    env.begin(torch.arange(env.n))
    returns: list[list[float]] = [[] for _ in range(env.n)]
    lengths: list[list[int]] = [[] for _ in range(env.n)]
    while (left := share > torch.tensor([len(own) for own in returns])).any():
        step = env.step(act(env.obs), None if env.vector else left)
        over = step.ended & step.valid
        if env.length.max() >= LONGEST:
            raise BadTask(
                f"{env.name}: an episode of the evaluation has not ended after {LONGEST} steps; give the environment a "
                "limit: Name-v0(max_episode_steps=1000), or gymnasium.wrappers.TimeLimit around your own"
            )
        for row in (over & left).nonzero()[:, 0].tolist():
            returns[row].append(float(step.ret[row]))
            lengths[row].append(int(step.length[row]))
        if over.any():
            env.begin(over.nonzero()[:, 0])
    return torch.tensor([*chain(*returns)]).double(), torch.tensor([*chain(*lengths)])
