"""Rows made by hand, for equation tests."""

from collections.abc import Sequence

import torch

from frugal.language.rows import Rows
from frugal.language.tasks.task import Problem


def rows(scores: Sequence[float], lengths: Sequence[int], groups: Sequence[int] | None = None, limit: int = 8) -> Rows:
    """len(scores) rollouts of the given lengths, all in one group unless told otherwise; log-probabilities are -1."""
    n, width = len(scores), max(lengths)
    length = torch.tensor(lengths)
    own = torch.arange(width) < length[:, None]
    logp = torch.where(own, -1.0, 0.0)
    yes = torch.ones(n, dtype=torch.bool)
    return Rows(
        problems=tuple(Problem(f"problem {i}") for i in range(n)),
        prompts=((1, 2),) * n,
        tokens=own.long(),
        own=own,
        turn=torch.zeros_like(own, dtype=torch.int64),
        old=logp,
        behaviour=logp,
        group=torch.tensor(groups if groups is not None else [0] * n),
        score=torch.tensor(scores),
        done=yes,
        counts=yes,
        trains=yes,
        greedy=~yes,
        drawn=~yes,
        stale=torch.zeros_like(own),
        length=length,
        limit=limit,
    )
