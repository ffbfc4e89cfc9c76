"""Help with problems beyond reach: which rows failed, and prompts that are extended by a hint.

A hint belongs to the prompt: its tokens are never trained, and every log-probability is given the extended prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frugal import maths
from frugal.core.errors import BadTask

if TYPE_CHECKING:
    from torch import Tensor

    from .policy import Policy
    from .rows import Rows
    from .tasks.task import Problem


def failed(rows: Rows) -> Tensor:
    """The sampled rows of the groups in which no sampled row scores above 0. [B] bool"""
    share, _ = maths.group_mean_std((rows.score > 0).float(), rows.group, rows.sampled)
    return rows.sampled & (share == 0)


def by_group(rows: Rows, chosen: Tensor) -> Iterator[tuple[int, list[int]]]:
    """(group, its chosen rows) for each group that has some. chosen [B] bool"""
    found: dict[int, list[int]] = {}
    for b in chosen.nonzero()[:, 0].tolist():
        found.setdefault(int(rows.group[b]), []).append(b)
    yield from sorted(found.items())


def solution(problem: Problem) -> str:
    """The problem's worked solution. Raises `BadTask` if it has none."""
    if "solution" not in problem.columns:
        raise BadTask(
            f"hints are cut from worked solutions, and the problem {str(problem.prompt)[:40]!r} has none; "
            'give the data a field "solution", or your task\'s problems Problem(..., columns={"solution": text})'
        )
    return str(problem.columns["solution"])


def with_hint(net: Policy, problem: Problem, words: str, hint: str, room: int) -> tuple[int, ...]:
    """Token ids of the problem's prompt, of a chat its last message, extended by `words` and `hint`.

    Raises `BadTask` if that and a response of `room` tokens do not fit into the model's context.
    """
    prompt = problem.prompt
    if isinstance(prompt, str):
        ids = net.encode(prompt + words + hint)
    else:
        ids = net.encode([*prompt[:-1], {**prompt[-1], "content": prompt[-1]["content"] + words + hint}])
    if len(ids) + room > net.context:
        raise BadTask(
            f"the prompt {str(prompt)[:40]!r} has {len(ids)} tokens with its hint, and with max_tokens={room} the "
            f"model's context holds {net.context}; shorten its hints or set max_tokens"
        )
    return ids
