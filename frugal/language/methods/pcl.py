"""A value model, trained beside the policy, picks the prompts that it expects to be solved about half of the time.

Changes      start.pick: of k m prompts drawn at random, the m with the smallest |V(x) - tau|, m the round's prompts;
             no rollout is spent on the choice
             after each round one step on the mean over its prompts of (V(x) - mean_i r_i)^2, r_i the scores of x
Source       Prompt Curriculum Learning for Efficient LLM Post-Training, Gao et al. 2025, arXiv 2510.01135: the
             algorithm of its method section, tau = 0.5; no code is released
Ours         k = 4. V is a linear head, zero at first, on the last prompt token's state of a copy of the policy's
             start weights, and lr=None is eight times the policy's rate: of 1, 2.5, 7.5 and 25 times, 7.5 foresaw the
             scores of plain GRPO's rounds best (sums, tiny model). Equal values are chosen among at random. The
             paper's m and n and its advantage without a spread belong to the base: `dr-grpo(prompts=512, group=16)`.
Leans on     nothing
Experiment   experiments/language/pcl.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import per_group
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows
    from frugal.language.tasks.task import Problem

NEUTRAL = {"k": 1}
FASTER = 8  # than the policy, if no rate is given


@dataclass(frozen=True)
class NearHalf:
    """Log-weight 0 for the chosen prompts, minus infinity for all others."""

    k: int
    tau: float
    lr: float | None

    def begin(self, run: Any) -> LiveNearHalf:
        return LiveNearHalf(self, run)

    def nearest(self, value: Tensor, m: int) -> Tensor:
        """The indices of the m values nearest to tau, the first ones among equals. value [n] -> [m]"""
        return (value - self.tau).abs().sort(stable=True).indices[:m]


class LiveNearHalf:
    """The value model at work."""

    def __init__(self, chosen: NearHalf, run: Any):
        from frugal.language.critic import with_value_head

        self.chosen, self.run, self.body = chosen, run, run.net.copy()
        self.head, self.optimiser = with_value_head(self.body)

    def __call__(self, pool: Sequence[Problem]) -> Tensor:
        """Log-weights [N]. With k = 1 all candidates are chosen, and drawing them is left to the loop."""
        if self.chosen.k == 1:
            return torch.zeros(len(pool))
        m = self.run.settings.prompts
        rng = self.run.rng("pcl", self.run.ledger.samples)  # others, when a round that rejects groups asks again
        among = torch.randperm(len(pool), generator=rng)[: self.chosen.k * m]
        with torch.no_grad():
            value = self.value(self.run.net.encode_all([pool[i].prompt for i in among.tolist()]))
        return torch.full((len(pool),), -math.inf).index_fill(0, among[self.chosen.nearest(value, m)], 0.0)

    def value(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """V of prompts given as token ids. [n]"""
        last, _ = self.body.body.decode(prompts, torch.arange(len(prompts)), 1)
        return self.head(last)[:, 0].float()

    def learn(self, rows: Rows) -> None:
        """One step towards the mean score of each prompt's sampled responses."""
        sampled = rows.take(rows.sampled)
        prompts = list(dict.fromkeys(sampled.prompts))
        index = torch.tensor([prompts.index(prompt) for prompt in sampled.prompts])
        mean = per_group(maths.group_mean_std(sampled.score, index, sampled.counts)[0], index).float()
        (self.value(prompts) - mean).square().mean().backward()
        self.optimiser.step(FASTER * self.run.settings.lr if self.chosen.lr is None else self.chosen.lr)

    def state_dict(self) -> dict[str, Tensor]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.optimiser.load_state_dict(state)


@patch
def pcl(k: int = 4, tau: float = 0.5, lr: float | None = None) -> Patch:
    """Prompt curriculum learning: of `k` times as many candidates, the prompts of predicted score nearest to `tau`."""
    if k < 1 or (lr is not None and lr <= 0):
        raise BadRecipe(f"pcl(k={k}, lr={lr}): give k of 1 or more, and a rate above 0 or None")
    return Patch(add={"start.pick": NearHalf(k, tau, lr)}, reads=("group",))  # a group tells a prompt's mean score
