"""The record that flows through the preference loop: n pairs of B responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from frugal.language.rows import Rows
from frugal.language.tasks.task import Problem


@dataclass(frozen=True)
class Pairs:
    """Pairs (a, b) of rows. A row may be in several pairs; `y` is the share of labels that a won, NaN if there is none.

    Pairs stand in the order in which their responses were drawn, whoever won: `chosen` and `rejected` say that.
    `rows.drawn` tells the policy's own responses from the data's and from those of other policies.
    """

    rows: Rows
    a: Tensor  # [n] int64
    b: Tensor  # [n] int64
    y: Tensor  # [n] float32

    def __len__(self) -> int:
        return len(self.a)

    @property
    def group(self) -> Tensor:
        """The number that the responses of a prompt share. [n] int64"""
        return self.rows.group[self.a]

    @property
    def chosen(self) -> Tensor:
        """The row that won; a where there is a draw. [n] int64"""
        return torch.where(self.y >= 0.5, self.a, self.b)

    @property
    def rejected(self) -> Tensor:
        """The other one. [n] int64"""
        return torch.where(self.y >= 0.5, self.b, self.a)

    def put(self, **changed: Any) -> Pairs:
        return replace(self, **changed)

    def take(self, index: Tensor) -> Pairs:
        """The pairs at `index` ([m] int64 or [n] bool), with the rows that are in them."""
        a, b = self.a[index], self.b[index]
        used, where = torch.cat([a, b]).unique(return_inverse=True)
        return Pairs(self.rows.take(used), where[: len(a)], where[len(a) :], self.y[index])

    def __add__(self, other: Pairs) -> Pairs:
        """Both, one after the other; the groups of the second get new numbers."""
        n, first = len(self.rows), int(self.rows.group.max()) + 1 if len(self.rows) else 0
        rows = self.rows + other.rows.put(group=other.rows.group + first)
        return Pairs(
            rows, torch.cat([self.a, other.a + n]), torch.cat([self.b, other.b + n]), torch.cat([self.y, other.y])
        )


class Memory:
    """All pairs so far; what of them is saved is all but the problems, which nobody needs any more."""

    def __init__(self) -> None:
        self.pairs: Pairs | None = None

    def __call__(self, pairs: Pairs) -> Pairs:
        if len(pairs):
            self.pairs = self.pairs + pairs if self.pairs else pairs
        return self.pairs or pairs

    def state_dict(self) -> dict[str, Any]:
        if self.pairs is None:
            return {}
        rows, pairs = self.pairs.rows, self.pairs
        return {
            **{f"rows.{name}": value for name, value in vars(rows).items() if isinstance(value, Tensor)},
            **{f"columns.{name}": value for name, value in rows.columns.items()},
            **{"a": pairs.a, "b": pairs.b, "y": pairs.y},
            **{"prompts": rows.prompts, "limit": rows.limit},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        tensors = {f.name: state[f"rows.{f.name}"] for f in fields(Rows) if f"rows.{f.name}" in state}
        columns = {name.removeprefix("columns."): v for name, v in state.items() if name.startswith("columns.")}
        prompts = tuple(map(tuple, state["prompts"]))
        rows = Rows(
            problems=(Problem(""),) * len(prompts), prompts=prompts, limit=state["limit"], columns=columns, **tensors
        )
        self.pairs = Pairs(rows, state["a"], state["b"], state["y"])
