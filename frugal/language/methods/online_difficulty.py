"""Train only on prompts of middling difficulty, measured by the policy's own rollouts; refill the batch.

Changes      start.keep: a group is kept when low <= p(x) <= high, p(x) the share of its rollouts that are solved
Source       Online Difficulty Filtering for Reasoning Oriented Reinforcement Learning, Bae et al. 2025,
             arXiv 2504.03380, balanced filtering: low + high = 1. The gain of a prompt is bounded below by a term
             in p (1 - p) / (2 beta^2), largest at p = 1/2.
Ours         low = 0.2; solved means a score of 1; both ends of the band belong to it; the rejected groups are charged
             and may be drawn again
Leans on     nothing
Experiment   experiments/language/online_difficulty.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import per_group

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {"low": 0.0, "high": 1.0}


@dataclass(frozen=True)
class Band:
    """Keep groups whose pass rate lies in [low, high]."""

    low: float
    high: float

    def __call__(self, score: Tensor, rows: Rows) -> Tensor:
        solved = (score >= 1.0 - 1e-6).float()
        rate, _ = maths.group_mean_std(solved, rows.group, rows.counts & rows.own.any(1))  # only what was sampled
        return per_group((rate >= self.low - 1e-9) & (rate <= self.high + 1e-9), rows.group)


@patch
def online_difficulty(low: float = 0.2, high: float | None = None) -> Patch:
    """Keep prompts with pass rate in [low, high]; `high` is 1 - low unless given."""
    high = 1 - low if high is None else high
    if not 0 <= low <= high <= 1:
        raise BadRecipe(f"online-difficulty(low={low}, high={high}): give 0 <= low <= high <= 1")
    rejects = (("all-wrong",) if low > 0 else ()) + (("all-right",) if high < 1 else ())
    return Patch(add={"start.keep": Band(low, high)}, rejects=rejects)
