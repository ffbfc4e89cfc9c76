"""How per-token losses become one number. Axes: b rollouts, T positions."""

from __future__ import annotations

from torch import Tensor

__all__ = ["loss_mean", "masked_mean"]


def masked_mean(x: Tensor, where: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x where `where` holds, 0 where it holds nowhere; what is masked out has no influence, not even NaN."""
    kept = x.where(where, 0.0)
    if dim is None:
        return kept.sum() / where.sum().clamp(min=1)
    return kept.sum(dim) / where.sum(dim).clamp(min=1)


def loss_mean(loss: Tensor, use: Tensor, mean: str, limit: int) -> Tensor:
    """One number from loss [b,T] over the used positions `use` [b,T] bool; 0 if none is used.

    - "token": sum / number of used tokens (DAPO, arXiv 2503.14476, eq. 8)
    - "rollout": mean over rollouts of each one's token mean (GRPO, arXiv 2402.03300, eq. 3)
    - "constant": sum / (rollouts * limit), limit the longest allowed response (Dr. GRPO, arXiv 2503.20783)

    A rollout of which no position is used leaves the denominator too: numerator and denominator share one mask.
    """
    if mean == "token":
        return masked_mean(loss, use)
    rollouts = use.any(1).sum().clamp(min=1)
    if mean == "rollout":
        return masked_mean(loss, use, dim=1).sum() / rollouts
    if mean == "constant":
        return loss.where(use, 0.0).sum() / (rollouts * limit)
    raise ValueError(f"mean={mean!r}; choose token, rollout or constant")
