"""Treat every token by its entropy: temperature, normalisation and size of its advantage, and its clip range.

Changes      With u = log H, H a token's entropy, and c the `pivot` quantile of u over the tokens,
             g = (u - c) / (max u - c) above c and (u - c) / (c - min u) below it, so that g is in [-1, 1]:
             act.temperature: T (1 + temperature g), c and the extremes from the last round's tokens
             credit.advantage: A_i = (R_i - m) / (s + 1e-6), m and s the mean and standard deviation (n, not n - 1) of
             the reward over all tokens of the group; groups with some |A_i| >= 5 keep GRPO's advantage
             learn.surrogate: with the range [1 - low, 1 + high] of the base's clip and g of the minibatch,
             1 - low (1 - clip g) is the lower bound where g <= 0, 1 + high (1 + clip g) the upper one where g > 0,
             and A (1 + redistribute g) the advantage where g > 0 and the ratio is outside the neutral zone,
             or g <= 0 and it is inside; the zone ends half way to the two bounds.
Source       From Uniform to Heterogeneous: Tailoring Policy Optimization to Every Token's Nature (HAPO), Liu et al.
             2025, arXiv 2509.16591, its four components; constants and order of the released code
             (github.com/starriver030515/HAPO)
Ours         in the released code the branch for low entropies has the wrong sign, so that g >= 0 and no advantage
             ever shrinks; here it has the sign of the paper's text. The standard deviation by which the code divides
             u - c first cancels in g and is left out. g is over the minibatch's used tokens, where the code takes
             each micro-batch's.
             Left out: DAPO's own parts (give it `dapo` as base) and the dual clip at 10.
Leans on     a base that clips the ratio (`grpo`, `dr-grpo`, `dapo`, `gspo`, `cispo`) and compares a group's rewards
Experiment   experiments/language/hapo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import Entropy, GroupRelative
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"temperature": 0.0, "average": False, "redistribute": 0.0, "clip": 0.0}
SMALLEST = 1e-8  # entropy that is told from 0
LARGEST = 5.0  # advantage by token that is trusted


def extremes(H: Tensor, pivot: float) -> Tensor:
    """Smallest u, its `pivot` quantile (the nearest entry) and largest u. H [n] -> [3]"""
    u = H.clamp(min=SMALLEST).log()
    return torch.stack([u.min(), u.kthvalue(1 + round(pivot * (len(u) - 1))).values, u.max()])


def heterogeneity(H: Tensor, marks: Tensor) -> Tensor:
    """g (see the head): above 0 for a token more open than most. H [..], marks [3] of `extremes` -> [..]"""
    low, middle, high = marks
    above = H.clamp(min=SMALLEST).log() - middle
    return (above / torch.where(above > 0, high - middle, middle - low).clamp(min=1e-8)).clamp(-1, 1)


@dataclass(frozen=True)
class AdaptiveTemperature:
    """Hotter where the next token is open, colder where it is forced."""

    strength: float
    pivot: float

    needs = {"old.entropy": Entropy()}

    def begin(self, run: Any) -> LiveTemperature:
        return LiveTemperature(self)


class LiveTemperature:
    """The temperature at work; it knows no tokens before the first round is over, and changes nothing then."""

    def __init__(self, part: AdaptiveTemperature):
        self.part = part
        self.marks: Tensor | None = None  # of `extremes`

    def __call__(self, logits: Tensor, t: int) -> Tensor | float:
        if self.marks is None:
            return 1.0
        return 1 + self.part.strength * heterogeneity(maths.entropy(logits), self.marks)

    def learn(self, rows: Rows) -> None:
        if rows.own.any():
            self.marks = extremes(rows.columns["old.entropy"][rows.own], self.part.pivot)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.marks is None else {"marks": self.marks}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.marks = state.get("marks")


@dataclass(frozen=True)
class TokenAverage:
    """Group-relative advantages whose mean and spread are over tokens: a long response counts more."""

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        R, counts = r.sum(1).double(), rows.counts
        ids, where = rows.group.unique(return_inverse=True)

        def total(x: Tensor) -> Tensor:
            return x.new_zeros(len(ids)).index_add_(0, where, x)[where]

        n = rows.own.sum(1) * counts.double()
        mean = total(n * R) / total(n).clamp(min=1)
        std = (total(n * (R - mean).square()) / total(n).clamp(min=1)).sqrt()
        spread = maths.group_mean_std(R, rows.group, counts)[1] > 0  # exact, also where rounding is not
        A = torch.where(spread, (R - mean) / (std + 1e-6), 0.0).float()[:, None].expand_as(r)
        return torch.where(total((A.abs() >= LARGEST).any(1).double())[:, None] > 0, GroupRelative()(r, rows), A)


@dataclass(frozen=True)
class ByEntropy:
    """The inner surrogate with each token's own advantage and clip range."""

    redistribute: float
    clip: float
    pivot: float
    inner: Any = None

    needs = {"now.entropy": Entropy()}

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        H = now["entropy"].detach()
        g = heterogeneity(H, extremes(H[mini.use], self.pivot))
        low = 1 - (1 - bounds[0]) * (1 - self.clip * g.clamp(max=0))
        high = 1 + (bounds[1] - 1) * (1 + self.clip * g.clamp(min=0))
        neutral = ((1 + low) / 2 < ratio) & (ratio < (1 + high) / 2)
        A = torch.where((g > 0) ^ neutral, A * (1 + self.redistribute * g), A)
        return self.inner(now, ratio, A, (low, high), mini)


@patch
def hapo(
    temperature: float = 0.05,
    average: bool = True,
    redistribute: float = 1.0,
    clip: float = 1.0,
    pivot: float = 0.8,
) -> Patch:
    """Heterogeneous adaptive policy optimisation; each of the first four arguments switches one component off."""
    if not (0 <= temperature < 1 and 0 <= redistribute <= 1 and clip >= 0 and 0 <= pivot <= 1):
        raise BadRecipe(
            f"hapo(temperature={temperature}, redistribute={redistribute}, clip={clip}, pivot={pivot}): "
            "give temperature in [0,1), redistribute and pivot in [0,1], clip >= 0"
        )
    by_entropy = redistribute > 0 or clip > 0
    why = "it normalises them over the group's tokens"
    return Patch(
        fill={"credit.advantage": TokenAverage()} if average else {},
        wrap={"learn.surrogate": ByEntropy(redistribute, clip, pivot)} if by_entropy else {},
        add={"act.temperature": AdaptiveTemperature(temperature, pivot)},
        reads=("learn.clip",) if by_entropy else (),
        claims=("baseline",) if average else (),
        leans_on={"compares a group's rewards": why} if average else {},
        optional={"credit.advantage": "average=False"}
        | dict.fromkeys(("learn.surrogate", "learn.clip"), "redistribute=0, clip=0"),
    )
