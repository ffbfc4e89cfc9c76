"""Responses are also begun in the midst of good ones: from a random prefix of the preferred response of the data.

Changes      act.collect: with probability `share` a prompt's responses begin with the first l of the |y| tokens (its
             end counted) of the preferred response y, l uniform on 1 .. |y| - 1; those tokens are not the policy's
             own, hence neither trained nor penalised, and take of the allowed length
             credit.score: whoever scores a response sees all of it, what it began with included
Source       Dataset Reset Policy Optimization for RLHF, Chang et al. 2024, arXiv 2404.08495, algorithm 1; the mixing
             probability (1 as released) and the range of l of the released code (github.com/Cornell-RL/drpo, with the
             RollinProcessor of github.com/Cornell-RL/tril)
Ours         the preferred response of a pair, where the paper takes unlabelled trajectories and for TL;DR human
             summaries. All responses of a group share l, so that what is compared begins alike; one token at least is
             left to the policy. The learner is the base's PPO, on the policy's own tokens as in algorithm 1; the
             released code penalises and whitens over the tokens of the beginning too
Leans on     nothing; problems must have pairs, and responses one turn
Experiment   experiments/preference/dr_po.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch
from frugal.preference.parts import FromData

if TYPE_CHECKING:
    from frugal.language.policy import Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Task

BASE = "rlhf"
NEUTRAL = {"share": 0.0}


@dataclass(frozen=True)
class FromPrefixes:
    """Sampling that goes on from the beginnings of preferred responses."""

    share: float

    def begin(self, run: Any) -> Callable[[Sequence[Ask], Sampler, torch.Generator], Rows]:
        # the base's random numbers stay its own
        return lambda asks, sampler, rng: self.collect(asks, sampler, rng, run.rng("dr-po", asks[0].group))

    def collect(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator, cuts: torch.Generator) -> Rows:
        sampler.spent.samples += sum(ask.n for ask in asks)
        return sampler.go_on(self.prefixes(asks, sampler, cuts), [], rng)

    def prefixes(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        """Rows that hold the first l tokens, none of them own, to be gone on with."""
        from frugal.language.rollout import UNSCORED, rows_of_text

        texts = [str(ask.problem.columns["chosen"]) for ask in asks]
        rows = rows_of_text(asks, texts, sampler.net, sampler.limit)
        chosen, u = torch.rand(2, len(asks), generator=rng)
        most = rows.length - 1
        l = torch.where(chosen < self.share, (1 + (u * most).long()).minimum(most), 0)
        sampler.spent.demonstrations += int((l > 0).sum())
        kept = torch.arange(rows.tokens.shape[1]) < l[:, None]
        blank = rows.put(
            tokens=rows.tokens.where(kept, 0),
            own=torch.zeros_like(kept),
            length=l,
            score=torch.full_like(rows.score, UNSCORED),
            done=torch.zeros_like(rows.done),
            drawn=torch.ones_like(rows.drawn),
        )
        return blank.take(torch.arange(len(asks)).repeat_interleave(torch.tensor([ask.n for ask in asks])))

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromData().check(task, net, limit)
        if hasattr(task, "reply"):
            raise BadTask(f"dr-po goes on with responses of one turn, and those of {task.name} have several")


@dataclass(frozen=True)
class WholeResponse:
    """The inner score, of rows in which every token counts as the policy's."""

    inner: Any = None

    def __call__(self, rows: Rows, sampler: Sampler) -> Rows:
        return rows.put(score=self.inner(rows.put(own=rows.valid), sampler).score)


@patch
def dr_po(share: float = 1.0) -> Patch:
    """Dataset reset: the `share` of prompts whose responses begin with part of the preferred one."""
    if not 0 <= share <= 1:
        raise BadRecipe(f"dr-po(share={share}): give a share of the prompts, from 0 to 1")
    return Patch(fill={"act.collect": FromPrefixes(share)}, wrap={"credit.score": WholeResponse()}, domain="preference")
