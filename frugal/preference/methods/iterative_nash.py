"""Self-play towards the policy that nobody beats: every round one step of mirror descent, by a squared loss on pairs.

Changes      learn.reference: (tau / eta) log pi_ref + (1 - tau / eta) log pi_t, pi_t the policy that drew this round's
             responses
             learn.loss: y (h - 1/(2 eta))^2 + (1 - y) (-h - 1/(2 eta))^2, h = z_a - z_b. Over all pairs that pi_t
             draws its minimum is pi_{t+1} ~ pi_ref^(tau/eta) pi_t^(1 - tau/eta) exp(P(. beats pi_t) / eta)
Source       Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret Learning,
             Zhang et al. 2024, arXiv 2407.00617, algorithm 1 and the loss of INPO
Ours         an iteration is a round: `online-dpo(prompts=..., epochs=...)` says how long it is. With one step a round
             the gradient is tau / eta times that of online IPO with beta = tau. All pairs of two responses a prompt,
             where the paper takes the best and the worst of eight. eta = 7.5e-3 and tau = eta / 3, for sums over long
             responses, are what a reproduction gives as the paper's; short responses want larger ones
Leans on     nothing
Experiment   experiments/preference/iterative_nash.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.preference.parts import Squared, StartModel

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

BASE = "online-dpo(beta=0.0075, loss='ipo')"
NEUTRAL = {"tau": 7.5e-3}


@dataclass(frozen=True)
class Between:
    """share log pi_ref + (1 - share) log pi_t. [b,T]"""

    share: float
    needs = {**StartModel.needs, "old.logp": "logp"}

    def __call__(self, rows: Rows) -> Tensor:
        return self.share * rows.columns["ref.logp"] + (1 - self.share) * rows.old


@patch
def iterative_nash(eta: float = 7.5e-3, tau: float = 2.5e-3) -> Patch:
    """Iterative Nash policy optimisation (INPO) with step 1 / `eta` and KL weight `tau`."""
    if not 0 < tau <= eta:
        raise BadRecipe(f"iterative-nash(eta={eta}, tau={tau}): give 0 < tau <= eta")
    return Patch(fill={"learn.reference": Between(tau / eta), "learn.loss": Squared(eta)}, domain="preference")
