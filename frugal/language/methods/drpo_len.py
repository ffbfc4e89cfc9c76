"""Length only shifts weight among the right responses, so that a long right one never becomes a negative example.

Changes      credit.advantage: in a group with right and wrong responses, n of them,
             A_i = n w_i / sum_right w for right ones, w_i = exp((1 - len_i / limit + extra_i) / lam),
             A_j = -n exp(s_j / tau) / sum_wrong exp(s / tau) for wrong ones, s_j the mean of log pi_old over its
             tokens; 0 in all other groups. `extra_i` is what other parts of credit.rewards give to i.
             learn.surrogate: -A log pi, averaged over each response's tokens; no ratio, no clipping
             learn.terms: c (log pi_old - log pi), c = barrier max(KL - delta, 0), KL the mean of log pi_old - log pi
             over the minibatch's tokens; no gradient goes through c
             Together the gradient of pos - neg + penalty, pos = sum_right w_i s_i / sum_right w the score of the
             right ones, and neg = tau log mean_wrong exp(s_j / tau) that of the wrong ones.
Source       DRPO: Efficient Reasoning via Decoupled Reward Policy Optimization, 2025, arXiv 2510.04474, eq. 7;
             constants and KL of the released code (github.com/Optimization-AI/DRPO)
Ours         the weights of the wrong ones are those of the policy that sampled, exact in a round's first step; the
             released code takes the present policy's, and with tau = 10 they are nearly equal in any case. KL counts
             every token alike, its penalty every response, as the loss's mean does. Right means a score of 1.
             `extra` is 0 in the paper, which says that any preference may take the place of length.
             `barrier=0` leaves surrogate and clipping to the base: at one step a round the same gradient.
             `lam=inf` is DisCO (arXiv 2505.12366): no pressure on length.
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `dapo`, `gspo`, `cispo`, `rloo`)
Experiment   experiments/language/drpo_len.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import LogProbability

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows


@dataclass(frozen=True)
class Decoupled:
    """Weights of right responses, by length, and of wrong ones, by likelihood; each sums to the group's size."""

    lam: float
    tau: float

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        right = rows.score >= 1.0 - 1e-6
        solved, _ = maths.group_mean_std(right.float(), rows.group, rows.sampled)  # share of the group
        n = rows.group.bincount(rows.sampled.double())[rows.group]
        preference = 1 - rows.length / rows.limit + r.sum(1) - rows.score
        s = maths.masked_mean(rows.old, rows.own, dim=1)
        A = maths.group_softmax(preference / self.lam, rows.group, rows.sampled & right)
        A = A - maths.group_softmax(s / self.tau, rows.group, rows.sampled & ~right)
        return (n * A).where((solved > 0) & (solved < 1), 0.0).float()[:, None].expand_as(r)


@dataclass(frozen=True)
class Barrier:
    """A penalty on the mean KL(pi_old, pi) of the minibatch that begins at `delta`."""

    weight: float
    delta: float

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        kl = maths.k1(mini.old, now.logp)  # [b,T]
        c = self.weight * (maths.masked_mean(kl, mini.use) - self.delta).clamp(min=0)
        return c.detach() * kl


@patch
def drpo_len(lam: float = 0.1, tau: float = 10.0, barrier: float = 1000.0, delta: float = 1e-4) -> Patch:
    """Right against wrong responses, the right ones weighted by exp((1 - length / limit) / lam)."""
    if lam <= 0 or tau <= 0 or barrier < 0 or delta < 0:
        raise BadRecipe(
            f"drpo-len(lam={lam}, tau={tau}, barrier={barrier}, delta={delta}): "
            "give lam > 0, tau > 0, barrier >= 0, delta >= 0"
        )
    return Patch(
        fill={"credit.advantage": Decoupled(lam, tau), **({"learn.surrogate": LogProbability()} if barrier else {})},
        add={"learn.terms": Barrier(barrier, delta)} if barrier else {},
        set={"mean": "rollout"},
        claims=("baseline",),
        silences=("learn.clip", "unit") if barrier else (),
        leans_on={"compares a group's rewards": "it sets the right responses of a group against the wrong ones"},
        optional={"learn": "barrier=0"} if barrier else {},
    )
