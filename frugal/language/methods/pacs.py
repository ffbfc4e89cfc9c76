"""The outcome of a response is predicted from its own likelihood: the policy is the classifier, and learns as one.

Changes      learn.surrogate: w_i BCE(sigmoid(psi_i), R_i) for each response i of n in a group, R_i = 1 if it is solved,
             psi_i = h_i - mean_{j != i} h_j, h_i = beta sum_t (log pi - log pi_old), no clipping, and
             w_i = n / (2 #{j: R_j = R_i}), so that both labels weigh the same; 1 where all labels are equal
             mean: over responses
Source       Implicit Actor Critic Coupling via a Supervised Learning Framework for RLVR, Li et al. 2025,
             arXiv 2509.02522; score and weights of the released code (github.com/ritzz-ai/PACS, pacs_core_algos.py),
             whose runs take beta = 1 or 2 and four steps a round
Ours         scores between 0 and 1 count as not solved. As the psi of a group sum to 0, a unanimous group teaches
             nothing at the first step of a round, and later only draws its responses' likelihood ratios together.
             With `balanced=False` the first step is RLOO's.
Leans on     nothing
Experiment   experiments/language/pacs.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows


@dataclass(frozen=True)
class OutcomePrediction:
    """Each response's weighted cross-entropy, at every position of it. [b,T]"""

    beta: float
    balanced: bool

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        h = self.beta * ratio.log().sum(1)  # the ratio is 1 where nothing is used
        R = (mini.score >= 1 - 1e-6).float()
        ids, group = mini.group.unique(return_inverse=True)

        def total(x: Tensor) -> Tensor:
            """Over each row's group. [b] -> [b]"""
            return x.new_zeros(len(ids)).index_add(0, group, x)[group]

        n, right = total(torch.ones_like(h)), total(R)
        psi = h - (total(h) - h) / (n - 1).clamp(min=1)
        alike = torch.where(R > 0, right, n - right)
        w = torch.where(alike < n, n / (2 * alike), 1.0) if self.balanced else None
        loss = torch.nn.functional.binary_cross_entropy_with_logits(psi, R, w, reduction="none")
        return loss[:, None].expand_as(ratio)


@patch
def pacs(beta: float = 1.0, balanced: bool = True) -> Patch:
    """Predict each outcome from `beta` times the response's log-ratio, by cross-entropy."""
    if not beta > 0:
        raise BadRecipe(f"pacs(beta={beta}): give beta > 0")
    return Patch(
        fill={"learn.surrogate": OutcomePrediction(beta, balanced)},
        set={"mean": "rollout"},
        claims=("baseline",),
        silences=("credit", "learn.clip", "unit", "update.mask"),
    )
