"""The policy gradient of two responses to a prompt: only the difference of their rewards counts, for both as a whole.

Changes      credit.advantage: A_i = R_i - R_j of the two responses to a prompt, R with the base's KL reward in it
             learn.surrogate: with w = pi / pi_old of a whole response and sg a number without gradient
             separate  -sg(w_j) min(w_i A_i, clip(w_i, low, high) A_i)
             joint     -sg(w_i w_j) min(d A_i, clip(d, low - 1, high - 1) A_i) / 2, d = log(w_i / w_j)
             averaged over responses. Inside the range either has the gradient
             -w_1 w_2 (R_1 - R_2) grad log(pi(y_1) / pi(y_2)) / 2
Source       Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment, Wu et al. 2023,
             arXiv 2310.00212: pairwise gradient of theorem 1, P3O-V1 and P3O-V2 of section 4.2
Ours         the range is the base's clip. The KL penalty is the base's too, taken where the responses were sampled; so
             with a second pass over a round it is that of the first
Leans on     nothing
Experiment   experiments/preference/p3o.py
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Pairwise:
    """The equation of the head. [b,T], the same at every position of a response"""

    joint: bool

    def __call__(self, now: Any, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        low, high = bounds
        log_w = ratio.log().where(mini.use, 0.0).sum(1).clamp(-LARGEST, LARGEST)
        groups, where = mini.group.unique(return_inverse=True)
        both = log_w.new_zeros(len(groups)).index_add(0, where, log_w)[where].clamp(-LARGEST, LARGEST)
        if not self.joint:
            return (both - log_w).detach().exp()[:, None] * maths.ppo_clip(
                log_w.exp()[:, None].expand_as(A), A, low, high
            )
        d = (2 * log_w - both)[:, None].expand_as(A)
        return both.detach().exp()[:, None] * maths.ppo_clip(d, A, low - 1, high - 1) / 2


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
