"""The reward of the greedy response is the baseline: no critic, no group needed.

Changes      start.extra: one greedy response a prompt, which trains nothing
             credit.advantage: A_t = sum_{k>=t} r_k - R(greedy)
             learn.surrogate: -A log pi, the plain policy gradient
Source       ReMax, Li et al. 2023, arXiv 2310.10505, eq. 5 and algorithm 1
Ours         the KL penalty is not part of the patch: give the base one (`reinforce(beta=0.05)`). It is summed to
             the end of the response; the released code gives each token its own alone, and clips
             R - R(greedy) to [-5, 5].
Leans on     nothing
Experiment   experiments/language/remax.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.recipe import Patch, patch
from frugal.language.parts import LogProbability
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Extra, Rows


@dataclass(frozen=True)
class GreedyRow:
    """Ask for one greedy response of every prompt, outside the group's statistics."""

    def __call__(self, rows: Rows, k: int) -> Extra:
        from frugal.language.rows import Ask, Extra

        if k:
            return Extra()
        first = {int(g): b for b, g in reversed(list(enumerate(rows.group)))}
        return Extra(
            [
                Ask(rows.problems[b], rows.prompts[b], g, greedy=True, counts=False, trains=False)
                for g, b in sorted(first.items())
            ]
        )


@dataclass(frozen=True)
class GreedyBaseline:
    """Reward to go minus the return of the group's greedy row."""

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        greedy = rows.greedy
        baseline = torch.zeros(int(rows.group.max()) + 1).index_add(0, rows.group[greedy], rows.score[greedy])
        return maths.reward_to_go(r) - baseline[rows.group][:, None]


@patch
def remax() -> Patch:
    """REINFORCE with the greedy response's reward as baseline."""
    return Patch(
        fill={"credit.advantage": GreedyBaseline(), "learn.surrogate": LogProbability()},
        add={"start.extra": GreedyRow()},
        claims=("baseline",),
        silences=("learn.clip", "unit", "epochs", "minibatches"),
    )
