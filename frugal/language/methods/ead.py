"""Sample hot at the start of a response and cool along it: early tokens decide the plan, late ones must be exact.

Changes      act.temperature: tau_t = max(1 + hot - exp(t / d), cold) at position t, on top of the policy's own
             credit.weights: w_t = min(pi_old / behaviour, cap), since the samples are not the policy's
Source       Let it Calm: Exploratory Annealed Decoding for Verifiable Reinforcement Learning, 2025,
             arXiv 2510.05251, the schedule of its method section
Ours         horizon = 12: the paper's d_s = min(d_0 + 5 s, 40000) fits responses of thousands of tokens; here d is
             set so that tau crosses 1 about a third into short responses, and does not grow.
             cap = 2 and the correction itself: the paper argues that annealing stays near the policy and leaves
             it out; `cap=None` does so too.
Leans on     nothing
Experiment   experiments/language/ead.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import TruncatedImportance

if TYPE_CHECKING:
    from torch import Tensor

NEUTRAL = {"hot": 1.0, "cold": 1.0, "cap": None}


@dataclass(frozen=True)
class Annealed:
    """Temperature `hot` at position 0, falling slowly first and faster later, never below `cold`."""

    hot: float
    cold: float
    horizon: float

    def __call__(self, logits: Tensor, t: int) -> float:
        # beyond t / d = 50 the exponential is larger than any temperature
        return max(1 + self.hot - math.exp(min(t / self.horizon, 50.0)), self.cold)


@patch
def ead(hot: float = 1.2, cold: float = 0.6, horizon: float = 12.0, cap: float | None = 2.0) -> Patch:
    """Exploratory annealed decoding: temperature `hot` at the first token, cooling to `cold`."""
    if not hot >= cold > 0 or horizon <= 0:
        raise BadRecipe(f"ead(hot={hot}, cold={cold}, horizon={horizon}): give hot >= cold > 0 and horizon > 0")
    correction = {} if cap is None else {"credit.weights.correction": TruncatedImportance(cap)}
    return Patch(
        add={"act.temperature": Annealed(hot, cold, horizon), **correction},
        optional={"credit.weights.correction": "cap=None"} if correction else {},
        gives=("corrects off-policy",) if correction else (),
    )
