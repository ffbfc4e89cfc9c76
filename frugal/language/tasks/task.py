"""What a task is: problems and a verifier. A user's own task is any object with these three names.

Optional, where a task has them:

- ``demonstrate(problem, random) -> str``: a response worth imitating (``random`` is a `random.Random`), for `sft`;
- ``reply(problem, turns) -> str | None``: the environment's next message after the policy's turns so far (list of
  str), None when the episode is over; makes the task a multi-turn one;
- ``model``: the name of the model that `frugal run` takes when the user names none;
- in the columns of a problem ``solution``, the text of a right way to the answer, and ``hints``, texts of growing help:
  for methods that help with problems beyond reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol, runtime_checkable

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Problem:
    """One thing to solve. `prompt` is text, or chat messages ({"role", "content"}) for a chat model."""

    prompt: str | Sequence[Mapping[str, str]]
    reference: Any = None  # what the verifier compares with
    difficulty: float | None = None  # larger is harder, in the task's own unit
    columns: Mapping[str, Any] = field(default_factory=dict)  # other fields of a data set's row


@runtime_checkable
class Task(Protocol):
    """Problems and a verifier."""

    @property
    def name(self) -> str: ...

    @property
    def max_tokens(self) -> int:
        """Longest response."""

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; the same at every call."""

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """One score a completion, larger is better; 1 counts as solved. Never raises on what a model wrote."""


class TinyTask(Task, Protocol):
    """A task that a tiny character model can be warm-started on."""

    @property
    def alphabet(self) -> str: ...

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A response worth imitating."""
