"""Divergences between two policies at sampled tokens, from log-probabilities [..] to [..], or whole; entropy."""

from __future__ import annotations

from torch import Tensor

from .ratios import LARGEST_LOG_RATIO

__all__ = ["categorical_kl", "entropy", "k1", "k2", "k3"]


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    """log p - log q: unbiased for KL(p, q) under samples of p; as a loss its gradient has mean zero.

    Schulman 2020, "Approximating KL divergence".
    """
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    """(log p - log q)^2 / 2: biased as a value; as a loss on samples of p its gradient is that of KL(p, q)."""
    return (logp - ref).square() / 2


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """q/p - 1 - log(q/p): unbiased for KL(p, q), never negative; as a loss its gradient is that of KL(q, p).

    Schulman 2020; GRPO's penalty (arXiv 2402.03300, eq. 4).
    """
    d = (ref - logp).clamp(max=LARGEST_LOG_RATIO)  # else exp overflows, and inf times a mask's 0 is NaN
    return d.exp() - d - 1


def entropy(logits: Tensor) -> Tensor:
    """H = -sum_v p_v log p_v in nats, p = softmax(logits): Shannon 1948. logits [..,V] -> [..]

    Not as logsumexp minus a mean, which cancels where one token is certain. A logit may be minus infinity.
    """
    logp = logits.log_softmax(-1)
    p = logp.exp()
    return -(p * logp.where(p > 0, 0.0)).sum(-1)


def categorical_kl(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p, q) = sum_v p_v (log p_v - log q_v) in nats, p and q softmaxes: Kullback and Leibler 1951. [..,V] -> [..]"""
    logp, logq = logits.log_softmax(-1), other.log_softmax(-1)
    return (logp.exp() * (logp - logq)).sum(-1)
