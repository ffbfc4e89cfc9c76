"""Batches made by hand."""

from typing import Any

import torch

from frugal.control.batch import Batch


def rows(rewards: list[list[float]], lengths: list[int] | None = None, **more: Any) -> Batch:
    """A batch of zeros with these rewards [B,n], the first `lengths` steps of each row valid."""
    r = torch.tensor(rewards)
    B, n = r.shape
    valid = torch.arange(n) < torch.tensor(lengths or [n] * B)[:, None]
    no = torch.zeros(B, n, dtype=torch.bool)
    plain = {"obs": torch.zeros(B, n, 2), "act": torch.zeros(B, n, 1), "next": torch.zeros(B, n, 2)}
    rng = torch.Generator().manual_seed(0)
    return Batch(**{**plain, "reward": r, "term": no, "cut": no, "valid": valid, "rng": rng, **more})
