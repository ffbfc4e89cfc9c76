"""The policy gradient of two responses to a prompt: only the difference of their rewards counts, for both as a whole.

Changes      credit.advantage: A_i = R_i - R_j of the two responses to a prompt, R with the base's KL reward in it
             learn.surrogate: with w = pi / pi_old of a whole response and sg(x) the number x within [1/10, 10], through
             which no gradient goes
             separate  -sg(w_j) min(w_i A_i, clip(w_i, low, high) A_i)
             joint     -sg(w_i w_j) min(d A_i, clip(d, low - 1, high - 1) A_i) / 2, d = log(w_i / w_j)
             averaged over responses. Inside the range either has the gradient
             -w_1 w_2 (R_1 - R_2) grad log(pi(y_1) / pi(y_2)) / 2
Source       Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment, Wu et al. 2023,
             arXiv 2310.00212: pairwise gradient of theorem 1, P3O-V1 and P3O-V2 of section 4.2; both, and the weight's
             range, as in the first author's code (github.com/thwu1/rlhf_sac and github.com/thwu1/trlx)
Ours         the range is the base's clip. The KL penalty is the base's too, taken where the responses were sampled; so
             with a second pass over a round it is that of the first, where that code takes the present policy's.
             Its scores are divided by their running spread and clipped at 10
Leans on     nothing
Experiment   experiments/preference/p3o.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.recipe import Patch, patch
from frugal.language.parts import LeaveOneOut

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

BASE = "rlhf"
LARGEST = 20.0  # of a logarithm: exp(20) says no more than that two policies have nothing in common
WEIGHT = math.log(10.0)


@dataclass(frozen=True)
class Pairwise:
    """The equation of the head. [b,T], the same at every position of a response"""

    joint: bool

    def __call__(self, now: Any, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        low, high = bounds
        log_w = ratio.log().where(mini.use, 0.0).sum(1).clamp(-LARGEST, LARGEST)
        groups, where = mini.group.unique(return_inverse=True)
        both = log_w.new_zeros(len(groups)).index_add(0, where, log_w)[where]
        if self.joint:
            d = (2 * log_w - both)[:, None].expand_as(A)
            return _weight(both) * maths.ppo_clip(d, A, low - 1, high - 1) / 2
        return _weight(both - log_w) * maths.ppo_clip(log_w.exp()[:, None].expand_as(A), A, low, high)


def _weight(log_w: Tensor) -> Tensor:
    """sg of the head. [b] -> [b,1]"""
    return log_w.detach().clamp(-WEIGHT, WEIGHT).exp()[:, None]


@patch
def p3o(joint: bool = False) -> Patch:
    """Pairwise proximal policy optimisation, clipping each response's ratio or (`joint`) that between the two."""
    return Patch(
        fill={"credit.advantage": LeaveOneOut(), "learn.surrogate": Pairwise(joint)},
        set={"group": 2, "mean": "rollout"},
        reads=("learn.clip",),
        silences=("unit",),
        domain="preference",
    )
