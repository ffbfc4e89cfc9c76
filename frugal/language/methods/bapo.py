"""Before each step the clip bounds are raised until tokens with positive advantage have their share of the loss.

Changes      learn.clip: the first of the pairs (low, high), (low, high + 0.05), .., (low, high_max), and after these
             (low + 0.02, high_max), .., (low_max, high_max), with P >= target (P + N), or the last one, where
             P = sum of A_t min(rho_t, high) over A_t > 0 and N = sum of |A_t| max(rho_t, low) over A_t < 0,
             of all used tokens of the minibatch; every step begins again with the first
Source       BAPO: Stabilizing Off-Policy Reinforcement Learning for LLMs via Balanced Policy Optimization with Adaptive
             Clipping, Xi et al. 2025, arXiv 2510.18927, eq. 8 and algorithm 1; values of its section 5.1
Ours         plain sums over the sampled tokens, as in the released code (github.com/WooooDyy/BAPO); eq. 8 weights each
             by pi_old besides, which sampling has done already. That code moves low first, has low_max = 0.8,
             high_max = 2 and P >= N as its target, a share of 0.5, and a dual clip at 3. As N grows with low, a share
             that high_max cannot reach no low can: low is then low_max, and what the range takes away are gradients
Leans on     nothing; ratios leave 1 only with several steps a round (`minibatches`, `epochs`) or older rows
Experiment   experiments/language/bapo.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

BASE = "grpo(minibatches=2)"
NEUTRAL = {"target": 0.0, "low": 0.8, "high": 1.2}
LOW_STEP, HIGH_STEP = 0.02, 0.05


@dataclass(frozen=True)
class BalancedClip:
    """The lowest bounds with which positive tokens have the share `target`."""

    target: float
    low: float
    low_max: float
    high: float
    high_max: float

    def __call__(self, ratio: Tensor, A: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
        rho, A = ratio.detach()[use].double(), A[use].double()
        for low, high in self.pairs():
            P = (A.clamp(min=0) * rho.clamp(max=high)).sum()
            N = -(A.clamp(max=0) * rho.clamp(min=low)).sum()
            if self.target * (P + N) <= P:
                break
        return torch.full_like(ratio, low), torch.full_like(ratio, high)

    def pairs(self) -> list[tuple[float, float]]:
        """(low, high) in the order in which they are tried."""
        highs = [self.high + i * HIGH_STEP for i in range(steps(self.high_max - self.high, HIGH_STEP) + 1)]
        lows = [self.low + i * LOW_STEP for i in range(steps(self.low_max - self.low, LOW_STEP) + 1)]
        return [(self.low, high) for high in highs] + [(low, highs[-1]) for low in lows[1:]]


def steps(distance: float, step: float) -> int:
    """How many whole steps fit into a distance."""
    return int(distance / step + 1e-6)


@patch
def bapo(
    target: float = 0.4, low: float = 0.6, low_max: float = 0.9, high: float = 1.2, high_max: float = 3.0
) -> Patch:
    """Balanced policy optimisation: raise the bounds of the ratio until positive tokens have the share `target`."""
    if not (0 <= target <= 1 and 0 <= low <= low_max <= 1 <= high <= high_max < math.inf):
        raise BadRecipe(
            f"bapo(target={target}, low={low}, low_max={low_max}, high={high}, high_max={high_max}): "
            "give target in [0,1] and 0 <= low <= low_max <= 1 <= high <= high_max, all finite"
        )
    return Patch(fill={"learn.clip": BalancedClip(target, low, low_max, high, high_max)})
