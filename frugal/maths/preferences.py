"""Losses on pairs of responses, and preference games. Axes: n pairs, K responses of a small set.

A pair's log-ratios are z_a and z_b [n], each log pi(y|x) - log pi_ref(y|x) of a response; h = z_a - z_b.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["exploitability", "hinge_loss", "ipo_loss", "kto_loss", "logistic_loss", "nash", "tilted"]


def logistic_loss(h: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta h): DPO (Rafailov et al. 2023, arXiv 2305.18290, eq. 7); Bradley-Terry where h is a reward."""
    return F.softplus(-beta * h)


def ipo_loss(h: Tensor, beta: float) -> Tensor:
    """(h - 1 / (2 beta))^2: IPO (Azar et al. 2023, arXiv 2310.12036, eq. 17)."""
    return (h - 1 / (2 * beta)).square()


def hinge_loss(h: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta h): SLiC with a reference (Liu et al. 2023, arXiv 2309.06657, eq. 11)."""
    return F.relu(1 - beta * h)


def kto_loss(z_won: Tensor, z_lost: Tensor, z_0: Tensor | float, beta: float) -> Tensor:
    """Mean of 1 - sigmoid(beta (z_won - z_0)) and 1 - sigmoid(beta (z_0 - z_lost)).

    KTO (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8) on the two responses of a pair; z_0 estimates KL(pi, pi_ref).
    """
    return (torch.sigmoid(beta * (z_0 - z_won)) + torch.sigmoid(beta * (z_lost - z_0))) / 2


def tilted(ref: Tensor, r: Tensor, beta: float) -> Tensor:
    """pi(y) ~ ref(y) exp(r(y) / beta): the policy of the largest E[r] - beta KL(pi, ref). ref, r [..,K] -> [..,K]

    Rafailov et al. 2023, arXiv 2305.18290, eq. 4.
    """
    return (ref.log() + r / beta).softmax(-1)


def exploitability(p: Tensor, P: Tensor) -> Tensor:
    """max_i P(i beats y ~ p) - 1/2: what the best response to p wins beyond a draw. p [..,K], P [..,K,K] -> [..]"""
    return (P @ p[..., None])[..., 0].max(-1).values - 0.5


def nash(P: Tensor) -> Tensor:
    """The policy that no response beats in more than half of the cases. P [K,K], P + P^T = 1 -> [K]

    The value of the game is 1/2 (von Neumann 1928): max v with (p P)_j >= v for every j, a linear program.
    """
    from scipy.optimize import linprog

    K = len(P)
    sides = np.hstack([-P.double().numpy().T, np.ones((K, 1))])
    found = linprog(
        np.r_[np.zeros(K), -1.0],
        sides,
        np.zeros(K),
        np.r_[np.ones(K), 0.0][None],
        [1.0],
        [(0, None)] * K + [(None, None)],
    )
    return torch.tensor(found.x[:K]).clamp(min=0) / found.x[:K].clip(0).sum()
