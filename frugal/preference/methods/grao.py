"""A reference answer joins the group: imitated while it is better than the samples, left behind once they are.

Changes      start.extra: the chosen response y of the data as one more row of the group, scored as the samples are, so
             that it enters the group's mean and spread: advantages A_1 .. A_G of the samples, and A_y
             learn.surrogate, credit.weights: maximise, with J(z) the mean of log pi over the tokens of z,
             sum_i A_i J(o_i) / G + beta A_y J(y) + lam sum_i A_i (J(o_i) - J(y)) / G, which is, since all A add up
             to 0, (1 + lam) / G sum_i A_i J(o_i) + (beta + lam / G) A_y J(y)
Source       Learning to Align, Aligning to Learn: A Unified Approach for Self-Optimized Alignment, Wang et al. 2025,
             arXiv 2508.07750, eq. 3 and 4: no ratio, no clipping, A_y computed in one group with the samples
Ours         mean and spread are over all G + 1 rewards, and the spread is the base's (divided by G, not G + 1, and with
             1e-4 added). The paper's sums in eq. 4 run over G rewards and leave open which. One step a round
Leans on     a base that compares a group's rewards (`rlhf(baseline='group')`)
Experiment   experiments/preference/grao.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import LogProbability
from frugal.lazy import torch
from frugal.preference.parts import FromData

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Policy
    from frugal.language.rows import Extra, Rows
    from frugal.language.tasks.task import Task

BASE = "rlhf(baseline='group')"


@dataclass(frozen=True)
class ReferenceRow:
    """The chosen response of every group's problem, unscored; counted and trained."""

    def begin(self, run: Any) -> Callable[[Rows, int], Extra]:
        return lambda rows, k: self.add(rows, k, run)

    def add(self, rows: Rows, k: int, run: Any) -> Extra:
        from frugal.language.rollout import rows_of_text
        from frugal.language.rows import Ask, Extra

        if k:
            return Extra()
        first = {int(g): b for b, g in reversed(list(enumerate(rows.group)))}
        asks = [Ask(rows.problems[b], rows.prompts[b], g) for g, b in sorted(first.items())]
        texts = [ask.problem.columns["chosen"] for ask in asks]
        run.ledger.demonstrations += len(asks)
        given = rows_of_text(asks, texts, run.net, run.settings.max_tokens)
        return Extra(ready=given.put(score=torch.full_like(given.score, float("nan"))))

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromData().check(task, net, limit)


@dataclass(frozen=True)
class Balanced:
    """(1 + lam) / G for a sample, beta + lam / G for the reference, times G + 1: the loss is a mean over rows. [B,1]"""

    beta: float
    lam: float

    def __call__(self, A: Tensor, rows: Rows) -> Tensor:
        size = torch.zeros(int(rows.group.max()) + 1).index_add(0, rows.group, rows.drawn.float())
        G = size[rows.group]
        return ((G + 1) * torch.where(rows.drawn, (1 + self.lam) / G, self.beta + self.lam / G))[:, None]


@patch
def grao(beta: float = 0.5, lam: float = 0.6) -> Patch:
    """Group relative alignment optimisation: imitation weighs `beta`, the pull between samples and reference `lam`."""
    if min(beta, lam) < 0:
        raise BadRecipe(f"grao(beta={beta}, lam={lam}): give 0 or more")
    return Patch(
        fill={"learn.surrogate": LogProbability()},
        add={"start.extra": ReferenceRow(), "credit.weights": Balanced(beta, lam)},
        set={"mean": "rollout"},
        claims=("baseline",),
        silences=("learn.clip", "unit", "epochs", "minibatches", "old"),  # nobody has seen a given row being sampled
        leans_on={"compares a group's rewards": "the reference answer enters the group's mean and spread"},
        domain="preference",
    )
