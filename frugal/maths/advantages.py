"""Advantages and returns. Axes: B rollouts, T positions. Statistics are taken in float64."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["gae", "group_mean_std", "group_relative", "group_softmax", "leave_one_out", "reward_to_go", "whiten"]


def group_mean_std(x: Tensor, group: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of x over the counted rows of each row's group.

    x [B], group [B] int, counts [B] bool -> mean [B], std [B] (0 where a group has one counted row or no spread).
    """
    groups = int(group.max()) + 1
    w, y = counts.double(), x.double().where(counts, 0.0)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(groups).index_add_(0, group, values)[group]

    n = total(w)
    mean = total(w * y) / n.clamp(min=1)
    std = (total(w * (y - mean) ** 2) / (n - 1).clamp(min=1)).sqrt()
    away = torch.where(counts, (y - y[_first(group, counts)]).abs(), 0.0)
    return mean, torch.where(total(away) > 0, std, 0.0)


def _first(group: Tensor, counts: Tensor) -> Tensor:
    """Index of the first counted row of each row's group (0 where there is none). [B]"""
    rows = torch.arange(len(group), device=group.device)
    first = group.new_full((int(group.max()) + 1,), len(group), dtype=torch.int64)
    first.scatter_reduce_(0, group, torch.where(counts, rows, len(group)), "amin")
    return torch.where(first == len(group), 0, first)[group]


def group_relative(
    outcome: Tensor, group: Tensor, counts: Tensor, scale: Literal["group", "batch", "none"], eps: float = 1e-4
) -> Tensor:
    """A_i = (R_i - mean_g R) / (std R + eps): GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2).

    std is over the group, over the batch, or absent (Dr. GRPO, arXiv 2503.20783). outcome [B] -> [B] float32.
    A group without spread gives exactly 0, also in float32.
    """
    mean, std = group_mean_std(outcome, group, counts)
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"scale={scale!r}; choose group, batch or none")
    divisor = torch.ones_like(std) if scale == "none" else std + eps
    if scale == "batch":
        divisor = group_mean_std(outcome, torch.zeros_like(group), counts)[1] + eps
    return torch.where(std > 0, (outcome.double() - mean) / divisor, 0.0).float()


def group_softmax(x: Tensor, group: Tensor, where: Tensor) -> Tensor:
    """exp(x_i) / sum exp(x) over the chosen rows of each row's group. x [B], where [B] bool -> [B] float64, else 0."""
    groups, y = int(group.max()) + 1, x.double().where(where, -torch.inf)
    largest = y.new_full((groups,), -torch.inf).scatter_reduce(0, group, y, "amax")[group]
    share = torch.where(where, (y - largest).exp(), 0.0)
    return share / share.new_zeros(groups).index_add(0, group, share)[group].clamp(min=1)  # the largest share is 1


def leave_one_out(outcome: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """A_i = R_i - mean over the other rows of the group: RLOO (Ahmadian et al. 2024, arXiv 2402.14740, eq. 8).

    outcome [B] -> [B]; a group of one gives 0, one without spread exactly 0. Only counted rows enter the mean.
    """
    mean, std = group_mean_std(outcome, group, counts)
    n = mean.new_zeros(int(group.max()) + 1).index_add_(0, group, counts.double())[group]
    without_itself = torch.where(counts, n / (n - 1).clamp(min=1), 1.0)
    return torch.where(std > 0, (outcome.double() - mean) * without_itself, 0.0).float()


def reward_to_go(r: Tensor, gamma: float = 1.0) -> Tensor:
    """G_t = sum_{k>=t} gamma^(k-t) r_k. r [B,T] -> [B,T]."""
    if gamma == 1.0:
        return r.flip(1).cumsum(1).flip(1)
    later, out = torch.zeros_like(r[:, 0]), torch.empty_like(r)
    for t in reversed(range(r.shape[1])):
        later = out[:, t] = r[:, t] + gamma * later
    return out


def gae(r: Tensor, v: Tensor, own: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = delta_t + gamma lam A_{t+1}, delta_t = r_t + gamma v_{t+1} - v_t (Schulman et al. 2016, eq. 16).

    Time steps are the policy's own positions; what lies between (a tool's words) is passed over, and the value
    after the last one is 0. r, v [B,T], own [B,T] bool -> [B,T], 0 where not own.
    """
    out = torch.zeros_like(r)
    after, v_after = torch.zeros_like(r[:, 0]), torch.zeros_like(r[:, 0])
    for t in reversed(range(r.shape[1])):
        here = r[:, t] + gamma * v_after - v[:, t] + gamma * lam * after
        after = torch.where(own[:, t], here, after)
        v_after = torch.where(own[:, t], v[:, t], v_after)
        out[:, t] = torch.where(own[:, t], here, 0.0)
    return out


def whiten(x: Tensor, where: Tensor, eps: float = 1e-8) -> Tensor:
    """(x - mean) / (std + eps) over the chosen positions, 0 elsewhere. x [B,T], where [B,T] bool -> [B,T]."""
    if where.sum() < 2:
        return torch.zeros_like(x)
    y = x.double() - x[where][0].double()  # from the first, so that equal values give exactly 0
    return torch.where(where, (y - y[where].mean()) / (y[where].std() + eps), 0.0).to(x.dtype)
