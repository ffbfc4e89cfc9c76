"""An episode is worth a set function of the states visited, and each step is credited with what it adds to it.

Changes      credit.rewards.task: r_t = F(s_1..s_{t+1}) - F(s_1..s_t) = sum_m max(c_{t+1,m} - max_{j<=t} c_{j,m}, 0), of
             the set function F(S) = sum_m max_{s in S} c_m(s), c being `info["covers"]` [M]
             steps: rounds are of whole episodes, since what a step adds depends on all before it
Source       Submodular Reinforcement Learning, Prajapat et al. 2023, arXiv 2307.13372: the policy gradient of marginal
             gains of its section on SubPO. The baseline is the base's, rewards to go those of `control.reinforce`.
Ours         F is facility location, of which coverage (weighted or not), one of each kind of item and the largest
             reward met are cases; log-determinants are not. The state of the reset is not in the set. The released
             tabular script weights a step by F of the path so far and not by the gains that follow, and its decaying
             entropy bonus is left to the setting `entropy=linear(0.01, 0)`.
             `modular=True` gives ModPO, with which the paper compares: r_t = F({s_{t+1}}) = sum_m c_{t+1,m}
Leans on     an environment that says `covers`; the policy sees what its observation says, which with time and place is
             the paper's SubPO-M, and with what was seen so far its SubPO-NM
Experiment   experiments/control/subpo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch

BASE = "control.reinforce"
TASK = "frugal/Coverage-v0"


@dataclass(frozen=True)
class Gains:
    """What each step adds to F [N,T], of rows that begin with an episode; or F of its state alone."""

    modular: bool
    columns = ("covers",)

    def __call__(self, batch: Batch) -> Tensor:
        c = batch.columns["covers"]  # [N,T,M], 0 after an episode's end
        if self.modular:
            return c.sum(2)
        seen = c.cummax(1).values.sum(2)  # F of the states so far
        return seen.diff(dim=1, prepend=seen[:, :1] * 0)


@patch
def subpo(modular: bool = False) -> Patch:
    """Submodular policy optimisation: rewards are the marginal gains of a set function of the states visited."""
    return Patch(add={"credit.rewards.task": Gains(modular)}, set={"steps": 0}, domain="control")
