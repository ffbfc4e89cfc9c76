"""Begin more responses than a round needs, stop when enough groups have ended, carry the others on to the next round.

Changes      act.collect: of oversample x prompts groups that are being sampled a round takes the `prompts` that have
             ended first, the oldest where several end at one step. The others go on in the next round with what they
             have; as many new prompts take the place of those that left. A group is whole before it leaves.
             The ratio: a token carried over keeps the log-probability of the weights that sampled it,
             rho_t = pi / pi_old with the pi_old of its own round, and is clipped like any other
Source       APRIL: Active Partial Rollouts in Reinforcement Learning to Tame Long-tail Generation, Zhou et al. 2025,
             arXiv 2509.18521, method section; groups, order and oversample = 2 (64 prompts for 32) of the released
             code (github.com/RLsys-Foundation/APRIL)
Ours         the released code computes pi_old of the tokens carried over anew with the present weights, so that it
             corrects nothing at the first step of a round; ours keeps what was said when they were sampled. A group
             that ends in the same step as the last one needed waits for the next round; there it is lost.
             `oversample` is a whole number, since the first round draws its prompts that many times, and later ones
             once. A response is charged when it begins, so that those which the budget's end leaves unfinished are
             charged as well.
             What a carried response has is encoded again, since the weights have changed.
Leans on     a ratio that is clipped, hence no REINFORCE; responses of one turn
Experiment   experiments/language/april.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Problem

NEUTRAL = {"oversample": 1}


@dataclass(frozen=True)
class Carried:
    """Takes the groups that end first, and keeps the others."""

    oversample: int

    def begin(self, run: Any) -> Queue:
        return Queue(self, run)


class Queue:
    """Responses that are being sampled, the oldest group first."""

    def __init__(self, part: Carried, run: Any):
        self.part, self.run = part, run
        self.asks: list[Ask] = []  # not yet begun
        self.rows: Rows | None = None
        self.groups = 0  # so far, which numbers them
        self.round = -1  # when some were sampled last
        self.pool: list[Problem] = []
        self.state: dict[str, Any] = {}  # rows of a checkpoint, until the pool is known

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows | None:
        """As many groups as there are asks; None until there are enough to begin with."""
        from frugal.language.rows import rows_of_state

        if hasattr(sampler.task, "reply"):
            raise BadTask(f"april carries on responses of one turn, and those of {sampler.task.name} have several")
        self.pool = list(sampler.task.problems("train"))
        if self.state:
            self.rows, self.state = rows_of_state(self.state, self.pool), {}
        self.asks += [replace(ask, group=self.groups + i) for i, ask in enumerate(asks)]
        self.groups += len(asks)
        sampler.spent.samples += sum(ask.n for ask in asks)
        waiting = 0 if self.rows is None else len(self.rows.group.unique())
        spare = (self.part.oversample - 1) * self.run.settings.prompts
        if waiting + len(self.asks) < len(asks) + spare and self.run.left():
            return None
        if self.rows is not None and self.round != self.run.clock:
            self.rows = self.rows.put(stale=self.rows.own)
        rows = sampler.go_on(self.rows, self.asks, rng, enough=len(asks))
        self.asks, self.round = [], self.run.clock
        ids, where = rows.group.unique(return_inverse=True)
        going = torch.zeros_like(ids).index_add(0, where, (~sampler.ended(rows)).long())
        first = (going == 0).nonzero()[: len(asks), 0]
        leaves = torch.isin(where, first)
        self.rows = None if leaves.all() else rows.take(~leaves)
        return rows.take(leaves)

    def state_dict(self) -> dict[str, Any]:
        rows = self.state if self.rows is None else self.rows.as_state(self.pool)
        return {"groups": self.groups, **rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.groups = state["groups"]
        self.state = {name: value for name, value in state.items() if name != "groups"}


@patch
def april(oversample: int = 2) -> Patch:
    """Active partial rollouts: `oversample` times as many groups are sampled at once as a round trains on."""
    if not isinstance(oversample, int) or oversample < 1:
        raise BadRecipe(f"april(oversample={oversample!r}): give a whole number of 1 or more")
    return Patch(fill={"act.collect": Carried(oversample)}, reads=("learn.clip",))
