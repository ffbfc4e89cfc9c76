"""The designer only ranks what matters: a decision tree over the ranking compares steps, and a reward is fitted to it.

Changes      credit.rewards.task: r = R_psi(s, z), with z the factors of a step, the most important one first.
             Steps i and j are compared by the first level l with |z_l(i) - z_l(j)| > margin_l std(z_l): who has more
             is preferred; without such a level the pair is dropped. R_psi descends
             -log sigmoid(R_psi(preferred) - R_psi(other)) of all pairs within 16 steps, 16 times in `every` samples
Source       Deep Reinforcement Learning from Hierarchical Weak Preference Feedback (HERON), Bukharin et al. 2023,
             arXiv 2309.02632; inputs, network, sizes, rate and margins of one std of the released code
             (github.com/abukharin3/HERON, ClassicControl/cleanrl/ddpg_rm.py)
Ours         the inputs of R_psi are standardised by the steps that it is fitted to, so that it depends as little on the
             scale of a factor as the labels do. Rewards are those of the present R_psi also for steps of the past,
             which the released code rewards once. The newest 50000 steps are kept. The first fit is after `every`
             samples, there after 1200, and until then rewards are 0. Not here: weights of the levels, whole
             trajectories, the form for programs.
Leans on     nothing; R_psi is known up to a constant, so episodes should be of one length
Experiment   experiments/control/heron.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch
    from frugal.control.env import Step

VISIBLE = {"every": 50}
HIDDEN, LR, STEPS, BATCHES, KEPT = (256, 256), 1e-3, 16, 16, 50_000


def preferred(a: Tensor, b: Tensor, margins: Tensor) -> Tensor:
    """1 where a is preferred, -1 where b is, 0 where no level decides. a, b [..,n], margins [n] -> [..]"""
    levels = (a - b).sign() * ((a - b).abs() > margins)
    out = torch.zeros_like(levels[..., 0])
    for level in levels.unbind(-1):
        out = torch.where(out == 0, level, out)
    return out


@dataclass(frozen=True)
class FromRanking:
    """A reward that is learned from comparisons of the factors."""

    factors: tuple[str, ...]
    margins: tuple[float, ...]
    every: int

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple({name.removeprefix("-") for name in self.factors} - {"reward"})

    def begin(self, run: Any) -> LiveReward:
        if run.spaces.pixels:
            raise BadTask("heron's reward reads vectors, and the observations here are pictures")
        return LiveReward(self, run)

    def inputs(self, of: Step | Batch) -> Tensor:
        """Observations and factors beside one another, more of a factor being better. [..,O+n]"""
        named = {"reward": of.reward} | {name: x[..., 0] for name, x in of.columns.items()}
        z = [-named[name[1:]] if name.startswith("-") else named[name] for name in self.factors]
        return torch.cat([of.obs, torch.stack(z, -1)], -1)


class LiveReward:
    def __init__(self, part: FromRanking, run: Any):
        from frugal.control.networks import Flat, mlp_weights

        self.part, self.run = part, run
        inputs = run.spaces.shape[0] + len(part.factors)
        self.net = Flat(mlp_weights("reward", (inputs, *HIDDEN, 1), run.rng("credit.rewards.heron")))
        self.seen, self.samples = [torch.zeros(0, inputs)], 0
        self.mean, self.spread = torch.zeros(inputs), torch.ones(inputs)

    def __call__(self, batch: Batch) -> Tensor:
        x = self.part.inputs(batch)
        if self.samples < self.part.every:  # nothing is known yet
            return torch.zeros(x.shape[:2])
        return self.reward(x.flatten(0, 1)).view(x.shape[:2])

    def reward(self, x: Tensor) -> Tensor:
        """R_psi of inputs [B,O+n]. [B]"""
        from frugal.control.networks import mlp

        return mlp(self.net.weights, "reward", (x - self.mean) / self.spread, len(HIDDEN) + 1)[:, 0]

    def observe(self, step: Step) -> None:
        before = self.samples
        self.seen.append(self.part.inputs(step)[step.valid])
        self.samples += len(self.seen[-1])
        if self.samples // self.part.every > before // self.part.every:
            self.fit()

    def fit(self) -> None:
        n, rng = len(self.part.factors), self.run.rng("credit.rewards.heron", self.samples)
        x = torch.cat(self.seen)[-KEPT:]
        self.seen = [x]
        std = x.std(0)
        self.mean, self.spread = x.mean(0), torch.where(std > 0, std, 1.0)
        margins = torch.tensor(self.part.margins) * std[-n:]
        with torch.enable_grad():
            for _ in range(BATCHES):
                some = x[torch.randint(len(x), (STEPS,), generator=rng)]
                z, R = some[:, -n:], self.reward(some)
                i, j = (preferred(z[:, None], z, margins) > 0).nonzero(as_tuple=True)  # every decided pair once
                if len(i):
                    self.net.step(self.net.gradient(maths.logistic_loss(R[i] - R[j], 1.0).mean()), LR)

    def state_dict(self) -> dict[str, Any]:
        own = {"seen": torch.cat(self.seen), "samples": self.samples, "shift": self.mean, "spread": self.spread}
        return {**own, **self.net.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state)
        self.seen, self.samples = [state["seen"]], state["samples"]
        self.mean, self.spread = state["shift"], state["spread"]


@patch
def heron(factors: tuple[str, ...] = ("reward",), margins: tuple[float, ...] = (1.0,), every: int = 400) -> Patch:
    """Learn the reward from a ranking of factors, the most important one first.

    `factors` are names in the environment's `info`, or reward for its own; -name where less is better. `margins`, one a
    factor, say in standard deviations how much more is worth noticing.
    """
    if len(factors) != len(margins) or not factors or min(margins) < 0 or every < 1:
        raise BadRecipe(
            f"heron(factors={factors}, margins={margins}, every={every}): give factors, one margin >= 0 for each, and "
            "every >= 1"
        )
    return Patch(add={"credit.rewards.task": FromRanking(factors, margins, every)}, domain="control")
