"""Online DPO that moves away from what the start policy would say anyway, and so tries what nobody has labelled.

Changes      act.answers: one sample of the policy and one of the start policy for each prompt
             learn.terms: alpha log pi(y~), y~ the start policy's response of the pair: optimism, since log pi / pi_ref
             is a value, up to a constant of the prompt
             update.memory: all pairs so far
Source       Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation for Sample-Efficient RLHF,
             Xie et al. 2024, arXiv 2405.21046, algorithm 1 with the start policy as the sampler of y~
Ours         alpha = 1e-5, the default of TRL's XPOTrainer, is for long responses; short ones want more: the term's
             slope is alpha a nat, that of DPO at most beta. `all_rounds=False` learns from each round alone, as TRL and
             OAT do. Equal responses, about which nobody is asked, have no term either, as in OAT
Leans on     a base that compares log-ratios (`online-dpo`)
Experiment   experiments/preference/xpo.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.preference.parts import AllSoFar, FromPolicy, StartModel, drawn_by

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from frugal.language.policy import Now, Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Task
    from frugal.preference.pairs import Pairs


@dataclass(frozen=True)
class OneOfEach:
    """A response of the policy and one of the start policy for each prompt."""

    needs = StartModel.needs

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        one = [dataclasses.replace(ask, n=1) for ask in asks]
        return sampler(one, rng) + drawn_by("ref", one, sampler, rng)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromPolicy().check(task, net, limit)


@dataclass(frozen=True)
class Optimism:
    """alpha log pi of the responses that the policy did not draw. [n]"""

    alpha: float

    def __call__(self, now: Now, mini: Pairs) -> Tensor:
        logp = now.logp.sum(1).where(~mini.rows.drawn, 0.0)  # [b]
        return self.alpha * (logp[mini.a] + logp[mini.b])


@patch
def xpo(alpha: float = 1e-5, all_rounds: bool = True) -> Patch:
    """Exploratory preference optimisation with optimism `alpha`."""
    if alpha < 0:
        raise BadRecipe(f"xpo(alpha={alpha}): give 0 or more")
    return Patch(
        fill={"act.answers": OneOfEach(), **({"update.memory": AllSoFar()} if all_rounds else {})},
        add={"learn.terms": Optimism(alpha)},
        silences=("group", "old"),
        leans_on={"compares log-ratios": "only there is a log-probability a value"},
        optional={"update.memory": "all_rounds=False"} if all_rounds else {},
        domain="preference",
    )
