"""Predict how much each token's update changes the policy's entropy, and give large changes less weight.

Changes      learn.step_weights: w_t = exp(-k |Omega_t|), not below `low`, with
             Omega_t = A_t rho_t (1 - p_t) (log p_t + H_t), k = -log(low) / max(max_t |Omega_t|, 0.02),
             the maximum over the minibatch's used tokens, p_t the token's present probability, rho_t its ratio to
             that of the policy that sampled, H_t the entropy of the latter. No gradient goes through w.
             A_t rho_t p_t (log p_t + H_t) is the fall of the entropy, to first order, when the update raises the
             token's logit: to reinforce what is likelier than average (log p > -H) lowers it, the rest raises it.
Source       Rethinking Entropy Interventions in RLVR: An Entropy Change Perspective (STEER), Hao et al. 2025,
             arXiv 2510.10150; prediction, exponential mapping and constants of the released code
             (github.com/zz-haooo/STEER, run_exp.sh)
Ours         the largest |Omega| is the minibatch's, where the released code takes each micro-batch's. Its second
             mapping, linear to weights of 0.8 to 1.2, and its dual clip at 10 are left out. The released runs clip
             at 0.2 and 0.28, average over tokens and take 16 steps a round. low = 0.8 is theirs too; the paper's
             fourth version is said to have 0.7.
Leans on     nothing
Experiment   experiments/language/steer.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import Entropy

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"low": 1.0}
SMALL = 0.02  # changes below it are small whatever the others are


@dataclass(frozen=True)
class EntropyChangeWeight:
    """From 1 where the update leaves the entropy alone down to `low` where it changes it most."""

    low: float

    needs = {"old.entropy": Entropy()}

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        logp, use = now.logp.detach(), mini.use
        ratio = maths.by_unit(logp - mini.old, use, "token", mini.turn)
        change = entropy_change(logp, ratio, mini.columns["old.entropy"], mini.A).abs()
        k = -math.log(self.low) / change[use].max().clamp(min=SMALL)
        return (-k * change).exp().clamp(min=self.low).where(use, 1.0)


def entropy_change(logp: Tensor, ratio: Tensor, entropy: Tensor, A: Tensor) -> Tensor:
    """Omega (see the head). All [b,T]"""
    return A * ratio * -logp.expm1() * (logp + entropy)


@patch
def steer(low: float = 0.8) -> Patch:
    """Stabilise the token-level entropy change: loss weights from 1 down to `low`."""
    if not 0 < low <= 1:
        raise BadRecipe(f"steer(low={low}): give a weight above 0 and up to 1")
    return Patch(add={"learn.step_weights": EntropyChangeWeight(low)}, reads=("credit.advantage",))
