"""Importance ratios and clipping. Axes: b rollouts, T positions."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["by_unit", "ppo_clip", "truncated_weight"]

LARGEST_LOG_RATIO = 20.0  # exp(20) is 5e8: beyond it a ratio says nothing and only overflows


def by_unit(log_ratio: Tensor, where: Tensor, unit: str, turn: Tensor) -> Tensor:
    """Ratio by token, or the geometric mean over a turn or a rollout, at every position of it.

    rho_t = exp(l_t), or exp(mean of l over the unit's positions): GSPO (arXiv 2507.18071, eq. 7).
    log_ratio [b,T], where [b,T] bool, turn [b,T] int -> [b,T], 1 where not `where`.
    """
    # clamp first, so that inf times 0 cannot arise where a position is masked
    l = log_ratio.where(where, 0.0).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    if unit == "turn":
        shape = (l.shape[0], int(turn.max()) + 1)
        totals = l.new_zeros(shape).scatter_add(1, turn, l)
        sizes = l.new_zeros(shape).scatter_add(1, turn, where.to(l.dtype))
        l = (totals / sizes.clamp(min=1)).gather(1, turn)
    elif unit == "rollout":
        l = (l.sum(1, keepdim=True) / where.sum(1, keepdim=True).clamp(min=1)).expand_as(l)
    elif unit != "token":
        raise ValueError(f"unit={unit!r}; choose token, turn or rollout")
    return l.where(where, 0.0).exp()


def ppo_clip(ratio: Tensor, advantage: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """-min(rho A, clip(rho, low, high) A): PPO (Schulman et al. 2017, arXiv 1707.06347, eq. 7). [b,T]"""
    return -torch.minimum(ratio * advantage, torch.clamp(ratio, low, high) * advantage)


def truncated_weight(logp: Tensor, behaviour: Tensor, cap: float) -> Tensor:
    """min(pi / mu, cap): truncated importance weight (Ionides 2008). log-probabilities [..] -> [..]."""
    return (logp - behaviour).clamp(max=LARGEST_LOG_RATIO).exp().clamp(max=cap)
