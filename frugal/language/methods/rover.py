"""The Q-values of a policy that acts at random, read off the language model itself and fitted by regression.

Changes      learn.surrogate: (Q_t - y_t)^2 / 2 at each token, no gradient through y, no clipping, where
             Q(s, a) = rho (log pi(a|s) - log pi_old(a|s)), Q_t = Q(s_t, a_t), and
             y_t = A_t + backup mean_a Q(s_{t+1}, a), the mean over the whole vocabulary: the value of the next state
             under the uniformly random policy, 0 after the last token
             credit.advantage: A = r - mean of the group's rewards, at every token, not divided by their spread
Source       Random Policy Valuation is Enough for LLM Reasoning with Verifiable Rewards, He et al. 2025,
             arXiv 2509.24981; loss and rewards of the released code for countdown (github.com/tinnerhrhe/ROVER). In a
             deterministic tree with rewards 0 and 1 at its leaves acting greedily on the random policy's Q is optimal,
             and a softmax of it, here ordinary sampling, keeps every solution in play.
Ours         half the square, so that the first step of a round is the policy gradient -A log pi; as there Q = 0, all
             else shows from the second step on (`minibatches`, `epochs`). The released code for mathematics rewards a
             right response with 5 times the batch's share of wrong ones, a wrong one with -2 times the share of right
             ones; that is left out. `unscaled=False` leaves the advantage to the base
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `gspo`, `cispo`; `rloo` if `unscaled=False`)
Experiment   experiments/language/rover.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows


@dataclass(frozen=True)
class VocabularyMean:
    """mean_a log pi(a|s) over the vocabulary. logits [n,V] -> [n]"""

    def __call__(self, logits: Tensor, token: Tensor, hidden: Tensor) -> Tensor:
        return logits.mean(-1) - logits.logsumexp(-1)


@dataclass(frozen=True)
class UniformBackup:
    """Half the squared distance between Q of the token and its target. [b,T]"""

    rho: float
    backup: float

    needs = {"old.vmean": VocabularyMean(), "now.vmean": VocabularyMean()}

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        V = self.rho * (now["vmean"].detach() - mini.columns["old.vmean"])  # of the state before each token
        y = A + self.backup * following(V, mini.own)
        return (self.rho * ratio.log() - y).square() / 2


def following(x: Tensor, own: Tensor) -> Tensor:
    """x at the policy's next own position, 0 where there is none. x [b,T], own [b,T] bool -> [b,T], 0 where not own."""
    flat, row = x[own], own.nonzero()[:, 0]
    later = torch.cat([flat[1:] * (row[1:] == row[:-1]), flat.new_zeros(1)])
    return torch.zeros_like(x).masked_scatter(own, later)


@patch
def rover(rho: float = 1.0, backup: float = 1.0, unscaled: bool = True) -> Patch:
    """Fit `rho` times the policy's log-ratio to the Q-values of the uniformly random policy."""
    if not (rho > 0 and backup >= 0):
        raise BadRecipe(f"rover(rho={rho}, backup={backup}): give rho > 0 and backup >= 0")
    return Patch(
        fill={
            "learn.surrogate": UniformBackup(rho, backup),
            **({"credit.advantage.scale": "none"} if unscaled else {}),
        },
        silences=("learn.clip", "unit"),
        leans_on={"compares a group's rewards": "the reward at every token is the outcome less the group's mean"},
        optional={"credit.advantage": "unscaled=False"} if unscaled else {},
    )
