"""Returns and advantages over steps of an environment. Axes: B or N rows, n or T steps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gae_episodes", "n_step"]


def n_step(r: Tensor, valid: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """sum_{j<k} gamma^j r_j and gamma^k, k the number of valid steps, which come first (Sutton 1988).

    r [B,n], valid [B,n] bool -> [B], [B].
    """
    if r.shape[1] == 1:
        return r[:, 0], torch.full_like(r[:, 0], gamma)
    powers = gamma ** torch.arange(r.shape[1] + 1, dtype=r.dtype)
    return (r * valid * powers[:-1]).sum(1), powers[valid.sum(1)]


def gae_episodes(r: Tensor, v: Tensor, v_next: Tensor, term: Tensor, ended: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = delta_t + gamma lam (1 - ended_t) A_{t+1}, delta_t = r_t + gamma (1 - term_t) v_next_t - v_t.

    Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16) over rows that may hold several
    episodes: at an end that is no termination the value of the true successor stands for what would have followed.
    All [N,T]; term and ended bool -> [N,T].
    """
    delta = r + gamma * v_next * ~term - v
    out, after = torch.empty_like(r), torch.zeros_like(r[:, 0])
    keep = gamma * lam * ~ended
    for t in reversed(range(r.shape[1])):
        after = out[:, t] = delta[:, t] + keep[:, t] * after
    return out
