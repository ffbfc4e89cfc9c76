"""Pairs are drawn from the policy that a reward model says is best, by rejecting samples of the start policy.

Changes      act.answers: `candidates` samples of the start policy for each prompt, their score the reward R
             act.choose: `keep` different ones of them, by statistical rejection sampling: in every pass a candidate is
             accepted with probability exp((R - max R) / beta), the largest of those not yet accepted; in the limit of
             many candidates these are samples of ref exp(R / beta)
             credit.label: random pairs of the accepted, each response in one; the higher reward wins
Source       Statistical Rejection Sampling Improves Preference Optimization, Liu et al. 2023, arXiv 2309.06657:
             section 3.2 and algorithm 1, first-round ranking of section 5.2; beta = 0.5, 64 candidates, 8 accepted
Ours         R is the reward of rlhf, a Bradley-Terry model of single responses fitted on `labels` pairs of the data
             (or one that is there already), where the paper ranks each against a random sample by a model of pairs.
             Its labels stand in the ledger and are no samples; pairs that it labels are samples and no labels. The
             policy's own temperature, and no top-k. gamma = 0.05 is the base's: `online-dpo(beta=0.05)`, hinge-norm
             its `loss="hinge"`
Leans on     nothing
Experiment   experiments/preference/rso.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch
from frugal.preference.parts import Learned, Ready, StartModel, drawn_by

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Task
    from frugal.preference.oracles import Asking
    from frugal.preference.pairs import Pairs


@dataclass(frozen=True)
class Rewarded:
    """Samples of the start policy, with the reward `inner` as their score."""

    inner: Any
    needs = StartModel.needs

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        return self.inner(drawn_by("ref", asks, sampler, rng), sampler)  # type: ignore[no-any-return]

    def check(self, task: Task, net: Policy, limit: int) -> None:
        if hasattr(self.inner, "check"):
            self.inner.check(task, net, limit)


@dataclass(frozen=True)
class Rejection:
    """`keep` different rows of every group, in random order; fewer where there are not so many."""

    beta: float
    keep: int

    def __call__(self, rows: Rows, rng: torch.Generator) -> Rows:
        texts = [tuple(t[:n]) for t, n in zip(rows.tokens.tolist(), rows.length.tolist(), strict=True)]
        groups = [(rows.group == g).nonzero()[:, 0] for g in rows.group.unique()]
        return rows.take(torch.cat([i[self.accepted(rows.score[i], [texts[k] for k in i], rng)] for i in groups]))

    def accepted(self, R: Tensor, texts: Sequence[Any], rng: torch.Generator) -> Tensor:
        """The places of the accepted. R [M], M texts -> [at most keep]"""
        kept: dict[Any, int] = {}
        while len(kept) < self.keep and (left := [k for k, text in enumerate(texts) if text not in kept]):
            passes = torch.rand(len(left), generator=rng) < ((R[left] - R[left].max()) / self.beta).exp()
            for k in torch.tensor(left)[passes].tolist():
                kept.setdefault(texts[k], k)
        places = torch.tensor(list(kept.values())[: self.keep])
        return places[torch.randperm(len(places), generator=rng)]


@dataclass(frozen=True)
class FirstRound:
    """The first half of a group against the second, by score; one that is left over is compared with nobody.

    A response alone is no pair, but charged as one, so that a policy that always says the same comes to an end.
    """

    def __call__(self, rows: Rows, ask: Asking) -> Pairs:
        from frugal.preference.pairs import Pairs

        groups = [(rows.group == g).nonzero()[:, 0] for g in rows.group.unique()]
        halves = [(i[: len(i) // 2], i[len(i) // 2 :][: len(i) // 2]) if len(i) > 1 else (i, i) for i in groups]
        a, b = (torch.cat(side) for side in zip(*halves, strict=True))
        y = (rows.score[a] - rows.score[b]).sign() / 2 + 0.5
        return Pairs(rows, a, b, ask.charge(y.where(a != b, float("nan"))))


@patch
def rso(beta: float = 0.5, candidates: int = 64, keep: int = 8, reward: str | None = None, labels: int = 1024) -> Patch:
    """Statistical rejection sampling optimisation (RSO); `reward` and `labels` as in `rlhf`."""
    if beta <= 0 or not 2 <= keep <= candidates:
        raise BadRecipe(
            f"rso(beta={beta}, candidates={candidates}, keep={keep}): give beta > 0, 2 <= keep <= candidates"
        )
    return Patch(
        fill={
            "act.answers": Rewarded(Ready(reward) if reward else Learned(labels)),
            "act.choose": Rejection(beta, keep),
            "credit.label": FirstRound(),
        },
        set={"group": candidates},
        silences=("old",),
        domain="preference",
    )
