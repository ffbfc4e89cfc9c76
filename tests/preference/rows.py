"""Pairs made by hand, for equation tests."""

from collections.abc import Sequence

import torch

from frugal.preference.pairs import Pairs
from tests.language.rows import rows


def pairs(y: Sequence[float], lengths: Sequence[int]) -> Pairs:
    """len(y) pairs of 2 len(y) responses of the given lengths, each pair a group; log-probabilities are -1."""
    n = len(y)
    both = rows([0.0] * (2 * n), lengths, groups=[i // 2 for i in range(2 * n)])
    first = torch.arange(0, 2 * n, 2)
    return Pairs(both, first, first + 1, torch.tensor(y))
