"""Sample hot at the start of a response and cool along it: early tokens decide the plan, late ones must be exact.

Changes      act.temperature: tau_t = max(1 + hot - exp(t / d_s), cold) at position t >= skip, 1 before it, with
             d_s = min(horizon + growth s, 40000) in round s; it multiplies the policy's own temperature
             credit.weights: w_t = min(pi_old / behaviour, cap), since the samples are not the policy's
Source       Let it Calm: Exploratory Annealed Decoding for Verifiable Reinforcement Learning, 2025,
             arXiv 2510.05251: schedule and truncated importance sampling of its method section, hot and cold of
             the released code
Ours         horizon, growth and skip are for short responses: tau crosses 1 at t = horizon log(hot), which is 2, and
             reaches `cold` at t = 9. For responses of thousands of tokens give the released run's horizon=500,
             growth=100, skip=10 (in its code 20 times d_0 = 25 and 5 a step; it skips the template's words).
             cap = 2: the paper's value is not known to us, and the released run leaves the weight out, as
             `cap=None` does.
Leans on     nothing
Experiment   experiments/language/ead.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import TruncatedImportance

if TYPE_CHECKING:
    from torch import Tensor

NEUTRAL = {"hot": 1.0, "cold": 1.0, "cap": None}
LONGEST = 40000.0  # of d_s


@dataclass(frozen=True)
class Annealed:
    """Temperature `hot` at position 0, falling slowly first and faster later, never below `cold`."""

    hot: float
    cold: float
    horizon: float
    growth: float
    skip: int

    def begin(self, run: Any) -> Callable[[Tensor, int], float]:
        return lambda logits, t: self.at(t, run.clock)

    def at(self, t: int, s: int) -> float:
        """tau_t in round s."""
        d = max(self.horizon, min(self.horizon + self.growth * s, LONGEST))
        # beyond t / d = 50 the exponential is larger than any temperature
        return 1.0 if t < self.skip else max(1 + self.hot - math.exp(min(t / d, 50.0)), self.cold)


@patch
def ead(
    hot: float = 1.2,
    cold: float = 0.1,
    horizon: float = 12.0,
    growth: float = 0.0,
    skip: int = 0,
    cap: float | None = 2.0,
) -> Patch:
    """Exploratory annealed decoding: temperature `hot` at the first token, cooling to `cold`."""
    if not hot >= cold > 0 or horizon <= 0 or growth < 0 or skip < 0:
        raise BadRecipe(
            f"ead(hot={hot}, cold={cold}, horizon={horizon}, growth={growth}, skip={skip}): "
            "give hot >= cold > 0, horizon > 0, growth >= 0, skip >= 0"
        )
    correction = {} if cap is None else {"credit.weights.correction": TruncatedImportance(cap)}
    return Patch(
        add={"act.temperature": Annealed(hot, cold, horizon, growth, skip), **correction},
        optional={"credit.weights.correction": "cap=None"} if correction else {},
        gives=("corrects off-policy",) if correction else (),
    )
