"""Regression by Gaussian processes with mean 0 and the kernel c exp(-|x - x'|^2 / (2 l^2)) (Rasmussen and Williams
2006, algorithm 2.1). Axes: n observations, m points asked about, C dimensions; float64 throughout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gp_evidence", "gp_posterior"]


def gp_posterior(x: Tensor, y: Tensor, at: Tensor, c: float, length: float, noise: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [m] at points [m,C], given y [n] at x [n,C] with noise of that standard deviation."""
    L = _root(x, c, length, noise)
    across = _kernel(x, at, c, length)  # [n,m]
    mean = across.T @ torch.cholesky_solve(y.double()[:, None], L)[:, 0]
    known = torch.linalg.solve_triangular(L, across, upper=False).square().sum(0)
    return mean, (c - known).clamp(min=0).sqrt()


def gp_evidence(x: Tensor, y: Tensor, c: float, length: float, noise: float) -> float:
    """log p(y | x) = -(y^T K^-1 y + log det K + n log 2 pi) / 2, K with the noise on its diagonal."""
    L = _root(x, c, length, noise)
    white = torch.linalg.solve_triangular(L, y.double()[:, None], upper=False)
    return float(-0.5 * white.square().sum() - L.diagonal().log().sum() - 0.5 * len(y) * math.log(2 * math.pi))


def _kernel(a: Tensor, b: Tensor, c: float, length: float) -> Tensor:
    away = (a.double()[:, None] - b.double()).square().sum(2)
    return c * (-0.5 * away / length**2).exp()


def _root(x: Tensor, c: float, length: float, noise: float) -> Tensor:
    return torch.linalg.cholesky(_kernel(x, x, c, length) + noise**2 * torch.eye(len(x), dtype=torch.float64))
