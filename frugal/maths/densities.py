"""Densities of actions. Axes: B rows, A action dimensions, over which log-densities are summed."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["gaussian_entropy", "gaussian_kl", "gaussian_logp", "tanh_gaussian_logp"]


def gaussian_logp(noise: Tensor, log_std: Tensor) -> Tensor:
    """log N(u; mu, sigma^2) of u = mu + sigma noise: -sum_i (noise_i^2 / 2 + log sigma_i + log(2 pi) / 2).

    noise [B,A], log_std [B,A] or [A] -> [B].
    """
    return -(0.5 * noise.square() + log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * noise.shape[-1]


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """sum_i (log sigma_i + (1 + log(2 pi)) / 2). log_std [...,A] -> [...]."""
    return log_std.sum(-1) + 0.5 * (1 + math.log(2 * math.pi)) * log_std.shape[-1]


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(p, q) = sum_i (log(s_i / sigma_i) + (sigma_i^2 + (mu_i - m_i)^2) / (2 s_i^2) - 1/2) of p = N(mu, sigma^2) and
    q = N(m, s^2), Kullback and Leibler 1951. mean [B,A], log_std [B,A] or [A] -> [B].
    """
    d = log_std - other_log_std
    apart = (mean - other_mean) * (-other_log_std).exp()
    return (0.5 * ((2 * d).exp() + apart.square() - 1) - d).sum(-1)


def tanh_gaussian_logp(noise: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
    """log pi(a) of a = tanh(u), u = mu + sigma noise (Haarnoja et al. 2018, arXiv 1801.01290, eq. 21).

    log pi(a) = log N(u) - sum_i log(1 - tanh(u_i)^2), and log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which
    is exact where tanh(u) rounds to 1. noise, log_std, u [B,A] -> [B].
    """
    squash = 2 * (math.log(2) * u.shape[-1] - (u + softplus(-2 * u)).sum(-1))
    return gaussian_logp(noise, log_std) - squash
