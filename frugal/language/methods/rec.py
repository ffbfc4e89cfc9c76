"""Group-relative REINFORCE as an off-policy algorithm: eight ways to hold it near its data, or to shape the data.

Changes      learn.surrogate: -c log pi at each token, no gradient through c, where rho = pi / pi_old, [low, high] is
             the range of the base's clip, w = 1, or rho with `importance`, and c is by `variant`
             one-side     w A where A > 0 and rho <= high, or A < 0 and rho >= low, else 0
             two-side     w A where low <= rho <= high, else 0
             ring         two-side, and w A too where A > 0 and rho <= 0.4, or A < 0 and rho >= 3
             reinforce    A
             opmd         A - 2 strength log rho, of the penalty strength (log rho)^2
             asymre       A + strength, as if the group's mean were lower by that
             weight       A exp(A)
             drop         A, where of groups with more responses below the mean than not as many as are too many,
                          drawn at random, have A = 0 and leave the group's mean (credit.advantage, wrapped)
             credit.advantage.scale: none, so that A = R - mean of the group
Source       Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some Myths About GRPO and Its
             Friends, Yao et al. 2025, arXiv 2509.24203: the families REC, REP and RED. Whoever wrote the K responses,
             -sum_i A_i log pi(y_i) has at pi_old the gradient of sum_{i<j} (a_i - a_j)^2 / (2 tau K), where
             a_i = R_i - tau log rho(y_i): clipping is no correction, only one regulariser among others. Regions,
             strength and drop of the released code (github.com/agentscope-ai/Trinity-RFT, examples/rec_gsm8k).
             OPMD is Kimi k1.5's (arXiv 2501.12599), AsymRE that of Arnal et al. 2025 (arXiv 2506.20520)
Ours         the range is the base's; low=0.6, high=2.0 makes it the paper's wide one. `unscaled=False` leaves the
             division by the spread to the base: one-side with `importance` is then GRPO.
             The released runs average over tokens, with weights 20 steps old: `grpo(mean="token", minibatches=20)`
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `dapo`, `gspo`, `cispo`)
Experiment   experiments/language/rec.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"importance": True, "unscaled": False}
CLIPPED, REGULARISED = ("one-side", "two-side", "ring"), ("opmd", "asymre")
VARIANTS = (*CLIPPED, "reinforce", *REGULARISED, "weight", "drop")
FAR_LOW, FAR_HIGH = 0.4, 3.0  # beyond them a ring lets through what pulls the ratio back
STRENGTH = 0.1


@dataclass(frozen=True)
class OffPolicyReinforce:
    """-c log pi (see the head). [b,T]"""

    variant: str
    importance: bool
    strength: float

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        return -self.coefficient(ratio.detach(), A, *bounds) * now.logp

    def coefficient(self, rho: Tensor, A: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """c of the head. All [b,T]"""
        wA, between = rho * A if self.importance else A, (low <= rho) & (rho <= high)
        match self.variant:
            case "one-side":
                return wA * torch.where(A > 0, rho <= high, low <= rho)
            case "two-side":
                return wA * between
            case "ring":
                return wA * (between | torch.where(A > 0, rho <= FAR_LOW, rho >= FAR_HIGH))
            case "opmd":
                return A - 2 * self.strength * rho.log()
            case "asymre":
                return A + self.strength
            case "weight":
                return A * A.exp()
        return A


@dataclass(frozen=True)
class Balanced:
    """The inner advantage, of groups with no more responses below their mean than not; 0 for the dropped ones."""

    inner: Any = None

    def begin(self, run: Any) -> Callable[[Tensor, Rows], Tensor]:
        return lambda r, rows: self.balanced(r, rows, run.rng("rec"))

    def balanced(self, r: Tensor, rows: Rows, rng: torch.Generator) -> Tensor:
        """r [B,T] -> A [B,T]"""
        kept = torch.ones_like(rows.counts)
        below = maths.group_relative(r.sum(1), rows.group, rows.counts, "none") < 0
        for group in rows.group.unique():
            here = rows.counts & (rows.group == group)
            lower = (here & below).nonzero()[:, 0]
            kept[lower[torch.randperm(len(lower), generator=rng)[int((here & ~below).sum()) :]]] = False
        return self.inner(r, rows.put(counts=rows.counts & kept)) * kept[:, None]


@patch
def rec(
    variant: str = "one-side",
    low: float | None = None,
    high: float | None = None,
    importance: bool = False,
    strength: float = STRENGTH,
    unscaled: bool = True,
) -> Patch:
    """Group-relative REINFORCE in one of its off-policy variants; `low` and `high` are distances from 1."""
    bounds = {f"learn.clip.{side}": value for side, value in (("low", low), ("high", high)) if value is not None}
    if variant not in VARIANTS:
        raise BadRecipe(f"rec(variant={variant!r}); choose from {', '.join(VARIANTS)}")
    if variant not in CLIPPED and (bounds or importance):
        raise BadRecipe(f"rec(variant={variant!r}) clips nothing: leave low, high and importance out")
    if variant not in REGULARISED and strength != STRENGTH:
        raise BadRecipe(f"rec(variant={variant!r}) has no strength: leave it out")
    if min(strength, *bounds.values(), 1.0) < 0:
        raise BadRecipe(f"rec(low={low}, high={high}, strength={strength}): give 0 or more")
    return Patch(
        fill={
            "learn.surrogate": OffPolicyReinforce(variant, importance, strength),
            **bounds,
            **({"credit.advantage.scale": "none"} if unscaled else {}),
        },
        wrap={"credit.advantage": Balanced()} if variant == "drop" else {},
        reads=("learn.clip",) if variant in CLIPPED else (),
        silences=() if variant in CLIPPED else ("learn.clip", "unit"),
        claims=("baseline",) if variant == "drop" else (),
        leans_on={"compares a group's rewards": "its derivation has the group's mean as baseline"},
        optional={"credit.advantage": "unscaled=False"} if unscaled else {},
    )
