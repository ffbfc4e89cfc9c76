"""Only the groups that are most often right pay for length; all others keep the plain reward for being right.

Changes      credit.rewards: -alpha sigmoid((len_i - mean len) / std len) for every right response i of a chosen group,
             mean and std over the group's right responses; wrong ones keep 0. Chosen are the ceil(share G) of the
             round's G groups with the largest share of right responses.
Source       Stable Reinforcement Learning for Efficient Reasoning (GRPO-lambda), Dai et al. 2025, arXiv 2505.18086:
             batch-wise top-lambda selection and its two rewards; share = 20%, lambda in the paper
Ours         alpha = 0.2, the usual value of this penalty (Arora and Zanette 2025, arXiv 2502.04463, whose reward it
             is); the paper's is not known to us. Right means a score of 1; the spread is the unbiased one, and where
             there is none the penalty is alpha / 2; of groups that are equally right the first ones are chosen.
             `share=1` is the uniform penalty that the paper compares with.
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `gspo`, `cispo`, `rloo`)
Experiment   experiments/language/grpo_lambda.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import per_group

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {"share": 0.0}


@dataclass(frozen=True)
class LengthPenalty:
    """A price on the length of right responses, in the `share` of groups that are most often right. [B,T]"""

    share: float
    alpha: float

    def __call__(self, rows: Rows) -> Tensor:
        right = (rows.score >= 1.0 - 1e-6) & rows.own.any(1)
        k, _ = maths.group_mean_std(right.float(), rows.group, rows.sampled)
        order = per_group(k, rows.group).argsort(descending=True, stable=True)  # [G]
        ids = rows.group.unique()
        chosen = ids[order[: math.ceil(self.share * len(ids) - 1e-9)]]
        mean, std = maths.group_mean_std(rows.length, rows.group, rows.sampled & right)
        z = ((rows.length - mean) / std).where(std > 0, 0.0)
        pays = right & (rows.group[:, None] == chosen).any(1)
        return rows.at_end(-self.alpha * z.sigmoid().where(pays, 0.0).float())


@patch
def grpo_lambda(share: float = 0.2, alpha: float = 0.2) -> Patch:
    """Long right responses earn up to `alpha` less, in the `share` of the round's groups that are most often right."""
    if not 0 <= share <= 1 or not 0 <= alpha <= 1:
        raise BadRecipe(f"grpo-lambda(share={share}, alpha={alpha}): give both from 0 to 1")
    return Patch(
        add={"credit.rewards": LengthPenalty(share, alpha)},
        leans_on={"compares a group's rewards": "it sets the lengths of a group's right responses against one another"},
        lives_on=("all-right",),
    )
