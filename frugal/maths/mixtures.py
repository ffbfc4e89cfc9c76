"""Mixtures of Gaussians. Axes: n points, d dimensions, k components; float64 throughout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["akaike", "fit_mixture", "mixture_log_densities"]

RIDGE = 1e-6  # added to the diagonal of every covariance


def mixture_log_densities(x: Tensor, share: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """log share_j + log N(x_i; mean_j, covariance_j): x [n,d], share [k], mean [k,d], covariance [k,d,d] -> [n,k]."""
    L = torch.linalg.cholesky(covariance)
    away = torch.linalg.solve_triangular(L, (x[:, None] - mean).permute(1, 2, 0), upper=False)  # [k,d,n]
    spread = L.diagonal(dim1=1, dim2=2).log().sum(1)
    return share.log() - 0.5 * (away.square().sum(1).T + x.shape[1] * math.log(2 * math.pi)) - spread


def fit_mixture(
    x: Tensor, k: int, rng: torch.Generator, rounds: int = 100, close: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Share [k], mean [k,d] and covariance [k,d,d] of k Gaussians on x [n,d], and the log-likelihood of x.

    Expectation maximisation (Dempster, Laird and Rubin 1977), until the mean log-likelihood gains less than `close`;
    it begins from the points nearest to k of them, each of which is drawn by the squared distance to those before
    (Arthur and Vassilvitskii 2007).
    """
    x, n = x.double(), len(x)
    chosen = [int(torch.randint(n, (1,), generator=rng))]
    for _ in range(k - 1):
        away = torch.cdist(x, x[chosen]).amin(1).square()
        weights = away.cumsum(0) if away.sum() > 0 else torch.arange(1.0, n + 1, dtype=x.dtype)
        u = torch.rand(1, generator=rng, dtype=x.dtype) * weights[-1]
        chosen.append(int(torch.searchsorted(weights, u, right=True).clamp(max=n - 1)))
    belongs = torch.nn.functional.one_hot(torch.cdist(x, x[chosen]).argmin(1), k).double()
    before = -math.inf
    for _ in range(rounds):
        mass = belongs.sum(0) + 10 * torch.finfo(x.dtype).eps
        mean = belongs.T @ x / mass[:, None]
        away = x[:, None] - mean
        covariance = torch.einsum("nk,nki,nkj->kij", belongs, away, away) / mass[:, None, None]
        covariance = covariance + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        share = mass / mass.sum()
        logs = mixture_log_densities(x, share, mean, covariance)
        total = logs.logsumexp(1)
        belongs = (logs - total[:, None]).exp()
        now = float(total.mean())
        if now - before < close:
            break
        before = now
    return share, mean, covariance, n * now


def akaike(log_likelihood: float, k: int, d: int) -> float:
    """2 p - 2 log L of a mixture with p = k (d + d (d + 1) / 2 + 1) - 1 free numbers (Akaike 1974)."""
    return 2 * (k * (d + d * (d + 1) / 2 + 1) - 1) - 2 * log_likelihood
