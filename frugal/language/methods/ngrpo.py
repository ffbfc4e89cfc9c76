"""An imaginary response with the best reward joins every group, so that all-wrong groups teach something.

Changes      start.extra: `virtual` rows of reward r_max a group, which enter its mean and spread and train nothing:
             A_i = (r_i - mean') / (std' + eps) over the G + virtual rewards
             learn.clip: [1 - low, 1 + high] with low < high, since falling tokens are now pushed harder
             start.keep: all-right groups are filtered and replaced
Source       NGRPO: Negative-enhanced Group Relative Policy Optimization, Nan et al. 2025, arXiv 2509.18851;
             advantage calibration and asymmetric clipping of its method section, settings of the released code
Ours         `asymmetric=False` leaves the clip range to the base, `filter=False` keeps all-right groups
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `gspo`, `cispo`, `rloo`)
Experiment   experiments/language/ngrpo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import per_group
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Extra, Rows

NEUTRAL = {"virtual": 0, "asymmetric": False, "filter": False}


@dataclass(frozen=True)
class VirtualRows:
    """`n` rows a group with the reward `best`: counted, never trained, never sampled; short and finished."""

    n: int
    best: float

    def __call__(self, rows: Rows, k: int) -> Extra:
        from frugal.language.rows import Extra

        if k or not self.n:
            return Extra()
        first = {int(g): b for b, g in reversed(list(enumerate(rows.group)))}
        model = rows.take(torch.tensor([b for _, b in sorted(first.items())]).repeat_interleave(self.n))
        yes, one = torch.ones_like(model.counts), torch.ones_like(model.length)
        imagined = {"own": torch.zeros_like(model.own), "trains": ~yes, "counts": yes, "done": yes, "length": one}
        return Extra(ready=model.put(**imagined, score=torch.full(yes.shape, self.best)))


@dataclass(frozen=True)
class NotAllRight:
    """Keep the groups in which some sampled response falls short of `best`."""

    best: float

    def __call__(self, score: Tensor, rows: Rows) -> Tensor:
        short = (score < self.best - 1e-6).float()
        share, _ = maths.group_mean_std(short, rows.group, rows.counts)
        return per_group(share > 0, rows.group)


@patch
def ngrpo(
    virtual: int = 1,
    best: float = 1.0,
    low: float = 0.16,
    high: float = 0.24,
    asymmetric: bool = True,
    filter: bool = True,
) -> Patch:
    """Group advantages that count `virtual` imaginary responses of reward `best`."""
    if virtual < 0:
        raise BadRecipe(f"ngrpo(virtual={virtual}): give 0 or more")
    return Patch(
        fill={"learn.clip.low": low, "learn.clip.high": high} if asymmetric else {},
        add={"start.extra": VirtualRows(virtual, best), **({"start.keep": NotAllRight(best)} if filter else {})},
        claims=("baseline",),
        leans_on={"compares a group's rewards": "its imaginary rows count in the group's mean and spread"},
        optional={"learn.clip": "asymmetric=False"} if asymmetric else {},
        lives_on=("all-wrong",),
        rejects=("all-right",) if filter else (),
    )
