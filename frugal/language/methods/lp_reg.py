"""Protect plausible rare tokens from being wiped out by negative samples: pull them up to a noise-free proxy.

Changes      learn.terms: beta min(k3(log pi, log q), 10), beside the surrogate inside the loss's mean, on tokens
             with A < 0 whose present probability pi is among the lowest rho of the minibatch's negative tokens
             and below q, where q_v = p_v / sum_{w: p_w > th} p_w for p_v > th, else 0, and th = kappa max_v p_v,
             p the rollout policy. No gradient goes through q or through the choice of tokens.
             learn.clip: ratio in [0, 10], which for A < 0 never clips: such a token's loss is -A ratio + beta k3
Source       Low-probability Tokens Sustain Exploration in Reinforcement Learning with Verifiable Reward,
             Huang et al. 2025, arXiv 2510.03222; constants of the released code (its 14B runs; rho = 0.005 at 32B)
Ours         the lowest rho are of the whole minibatch; the released code takes them of each micro-batch.
             `loose=False` leaves the clip range, and with it the surrogate of these tokens, to the base.
             The released runs average over tokens: `grpo(mean="token")`
Leans on     nothing
Experiment   experiments/language/lp_reg.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"beta": 0.0, "loose": False}
LARGEST = 10.0  # of the penalty, as in the released code


@dataclass(frozen=True)
class ProxyLogProbability:
    """log q of the sampled token: 0.. where it survives the min-p cut at `kappa`, minus infinity where it does not."""

    kappa: float

    def __call__(self, logits: Tensor, token: Tensor, hidden: Tensor) -> Tensor:
        p = logits.softmax(-1)
        kept = p > self.kappa * p.max(-1, keepdim=True).values
        mass = (p * kept).sum(-1)
        mine = p.gather(1, token[:, None])[:, 0]
        return torch.where(kept.gather(1, token[:, None])[:, 0], (mine / mass).log(), float("-inf"))


@dataclass(frozen=True)
class LowProbabilityKL:
    """The pull towards the proxy, on the rare and plausible tokens of failed responses."""

    kappa: float
    rho: float
    beta: float

    @property
    def needs(self) -> dict[str, Any]:
        return {"old.proxy": ProxyLogProbability(self.kappa)}

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        proxy = mini.columns["old.proxy"]
        chosen = self.chosen(now.logp.detach(), proxy, mini.A < 0, mini.use)
        # where not chosen the proxy may be minus infinity: put log pi there, at which k3 and its gradient are 0
        target = proxy.where(chosen, now.logp.detach())
        return self.beta * (maths.k3(now.logp, target).clamp(max=LARGEST) * chosen)

    def chosen(self, logp: Tensor, proxy: Tensor, negative: Tensor, use: Tensor) -> Tensor:
        """Tokens to protect. log pi and log q [b,T], A < 0 [b,T], used [b,T] -> [b,T] bool"""
        among = logp[negative & use]
        count = int(self.rho * len(among))
        if not count:
            return torch.zeros_like(use)
        rare = logp <= among.kthvalue(count).values
        return negative & use & rare & proxy.isfinite() & (logp < proxy)


@patch
def lp_reg(kappa: float = 0.02, rho: float = 0.01, beta: float = 1.0, loose: bool = True) -> Patch:
    """Low-probability regularisation with min-p threshold `kappa` on the rarest share `rho` of negative tokens."""
    if not (0 <= kappa < 1 and 0 <= rho <= 1 and beta >= 0):
        raise BadRecipe(f"lp-reg(kappa={kappa}, rho={rho}, beta={beta}): give kappa in [0,1), rho in [0,1], beta >= 0")
    return Patch(
        fill={"learn.clip.low": 1.0, "learn.clip.high": 9.0} if loose else {},
        add={"learn.terms": LowProbabilityKL(kappa, rho, beta)},
        optional={"learn.clip": "loose=False"} if loose else {},
    )
