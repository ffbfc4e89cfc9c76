"""Reward and teacher in one loss: GRPO, plus the reverse KL to a teacher on the student's own samples.

Changes      learn.terms: beta (log pi - log pi_T)^2 / 2 on every used token, inside the loss's mean, pi_T the teacher
             at the policy's temperature, without gradient. This is k2: on the policy's own samples its gradient is
             that of KL(pi, pi_T). beta falls from 5e-3 to 1e-3 over the run.
Source       KDRL: Post-Training Reasoning LLMs via Unified Knowledge Distillation and Reinforcement Learning,
             Xu et al. 2025, arXiv 2506.02208; joint loss with the k2 estimator and the annealed coefficient
Ours         beta falls evenly over the whole run, where the paper's falls by a step and then stays at its least. The
             paper's reward-guided masking, which shortens responses, is left out. A tiny model's teacher is that
             model after a short GRPO run (``tiny-modchain-teacher``); what it cost is not charged, each response that
             it reads is a teacher call in the ledger. The paper's runs average over tokens: `grpo(mean="token")`
Leans on     nothing
Experiment   experiments/language/kdrl.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.core.schedule import Schedule, linear

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"beta": 0.0}


@dataclass(frozen=True)
class TeacherKL:
    """beta k2(pi, pi_T) at this moment of the run. [b,T]"""

    beta: float | Schedule
    teacher: str | None

    @property
    def needs(self) -> dict[str, Any]:
        return {"teacher.logp": self.teacher}

    def begin(self, run: Any) -> Callable[[Now, Rows], Tensor]:
        def term(now: Now, mini: Rows) -> Tensor:
            beta = self.beta(run.progress) if isinstance(self.beta, Schedule) else self.beta
            return beta * maths.k2(now.logp, mini.columns["teacher.logp"])

        return term


@patch
def kdrl(beta: float | Schedule = linear(5e-3, 1e-3), teacher: str | None = None) -> Patch:  # noqa: B008
    """Distil `teacher` (a folder or hub name; None: the one made for a tiny model) while learning from rewards."""
    ends = (beta.start, beta.end) if isinstance(beta, Schedule) else (beta,)
    if min(ends) < 0:
        raise BadRecipe(f"kdrl(beta={beta}): give 0 or more, or a schedule such as linear(5e-3, 1e-3)")
    return Patch(add={"learn.terms": TeacherKL(beta, teacher)})
