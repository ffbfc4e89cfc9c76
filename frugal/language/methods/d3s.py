"""Update on the rollouts that spread the advantages most and, in them, on their uncertain tokens; relax over the run.

Changes      update.select: of the rollouts that train, the share `rows` whose advantages together have the largest
             variance, whichever groups they are from: the j largest and the N - j smallest, j with the largest
             Var(A); of all their tokens, the share `tokens` with the largest |A_t| H_t, H_t the entropy of the
             policy that sampled. Both shares grow with progress p: (1 - p) start + p end.
Source       Learning More with Less: A Dynamic Dual-Level Down-Sampling Framework for Efficient Policy Optimization
             (D3S), Wang et al. 2025, arXiv 2509.22115: cross-group selection, token key and schedule of its method
             section
Ours         the four ends of the schedules, which we could not find: 0.2 to 0.6 for both, so that a run trains 17%
             of its tokens, the paper's "under 20%". The advantage of a rollout whose tokens differ in it is their
             mean.
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `gspo`, `cispo`, `rloo`)
Experiment   experiments/language/d3s.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.core.schedule import Schedule, linear
from frugal.language.parts import Entropy
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {"rows": 1.0, "tokens": 1.0}
RELAXED = linear(0.2, 0.6)


@dataclass(frozen=True)
class DualLevel:
    """Keep the rollouts of largest advantage variance, and their tokens of largest |advantage| times entropy."""

    rows: float | Schedule
    tokens: float | Schedule

    needs = {"old.entropy": Entropy()}

    def begin(self, run: Any) -> Callable[[Tensor, Rows], Tensor]:
        return lambda A, rows: self.select(A, rows, run.progress)

    def select(self, A: Tensor, rows: Rows, progress: float) -> Tensor:
        """The equation of the head. A [B,T] -> [B,T] bool"""
        use = rows.use
        able = use.any(1).nonzero()[:, 0]  # rollouts that train
        if not len(able):
            return use
        mean = maths.masked_mean(A.double(), use, dim=1)[able]
        chosen = able[widest(mean, share(self.rows, progress, len(able)))]
        use = use & torch.zeros_like(use).index_fill(0, chosen, True)
        key = (A.abs() * rows.columns["old.entropy"])[use]
        best = key.sort(descending=True, stable=True).indices[: share(self.tokens, progress, len(key))]
        return use.masked_scatter(use, torch.zeros_like(key, dtype=torch.bool).index_fill(0, best, True))


def share(part: float | Schedule, progress: float, n: int) -> int:
    """How many of n the share is at `progress`; at least one."""
    return max(round((part(progress) if isinstance(part, Schedule) else part) * n), 1)


def widest(x: Tensor, n: int) -> Tensor:
    """Indices of the n entries of x [B] with the largest variance: j from the top, n - j from the bottom. [n]"""
    ordered, index = x.double().sort(descending=True, stable=True)

    def total(y: Tensor) -> Tensor:
        """Sums of the j first and the n - j last entries, j = 0 .. n."""
        first = torch.cat([y.new_zeros(1), y.cumsum(0)])
        return first[: n + 1] + first[-1] - first[len(y) - n :]

    j = int((total(ordered.square()) / n - (total(ordered) / n).square()).argmax())
    return torch.cat([index[:j], index[len(x) - n + j :]])


@patch
def d3s(rows: float | Schedule = RELAXED, tokens: float | Schedule = RELAXED) -> Patch:
    """Dynamic dual-level down-sampling to the share `rows` of the rollouts and `tokens` of their tokens."""
    for name, part in (("rows", rows), ("tokens", tokens)):
        ends = (part.start, part.end) if isinstance(part, Schedule) else (part,)
        if not all(0 < end <= 1 for end in ends):
            raise BadRecipe(f"d3s({name}={part}): give a share above 0 and up to 1, or a schedule between two of them")
    return Patch(
        add={"update.select": DualLevel(rows, tokens)},
        reads=("credit.advantage",),
        leans_on={"compares a group's rewards": "it compares advantages between groups, so they must be of one scale"},
    )
