"""The record that flows through the language loop: B rollouts, padded on the right to T response positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .tasks.task import Problem


@dataclass(frozen=True)
class Ask:
    """A wish for `n` rollouts of one problem."""

    problem: Problem
    prompt: tuple[int, ...]  # token ids
    group: int
    n: int = 1
    greedy: bool = False
    counts: bool = True  # enters group statistics
    trains: bool = True  # enters the surrogate


@dataclass(frozen=True)
class Extra:
    """What a `start.extra` part wants of the round: rows to sample, rows that need no sampling, rows to leave out."""

    asks: Sequence[Ask] = ()
    ready: Rows | None = None
    drop: Tensor | None = None  # [B] bool, of the rows that it was shown; they stay charged

    def __len__(self) -> int:
        """How many rows it adds."""
        return sum(ask.n for ask in self.asks) + (0 if self.ready is None else len(self.ready))

    def __bool__(self) -> bool:
        return len(self) > 0 or self.drop is not None


@dataclass(frozen=True)
class Rows:
    """B rollouts. Tensors are [B,T] or [B]; positions beyond a rollout's end have own = False and hold 0.

    `old` is the log-probability under the policy (its temperature included) when it was sampled, `behaviour` under
    what was really sampled from. `columns` holds what parts asked for, by name: ``old.entropy``, ``ref.logp``.
    """

    problems: tuple[Problem, ...]  # B
    prompts: tuple[tuple[int, ...], ...]  # B, token ids
    tokens: Tensor  # [B,T] int64
    own: Tensor  # [B,T] bool: sampled by the policy, its end-of-sequence token included
    turn: Tensor  # [B,T] int64, 0 at padding
    old: Tensor  # [B,T] float32
    behaviour: Tensor  # [B,T] float32
    group: Tensor  # [B] int64
    score: Tensor  # [B] float32
    done: Tensor  # [B] bool: ended by itself; False: cut at the token limit
    counts: Tensor  # [B] bool: enters group statistics
    trains: Tensor  # [B] bool: enters the surrogate
    greedy: Tensor  # [B] bool: not sampled, each token the likeliest
    drawn: Tensor  # [B] bool: `old` is what the policy said when it wrote the row; False for text that was given
    stale: Tensor  # [B,T] bool: written under earlier weights; `old` is theirs, and the ratio begins from it
    length: Tensor  # [B] int64: positions, observations included
    limit: int  # most positions that a response may have
    columns: dict[str, Tensor] = field(default_factory=dict)  # [B,T,...]
    A: Tensor = None  # type: ignore[assignment]  # [B,T] float32, there once credit is given
    selected: Tensor | None = None  # [B,T] bool, what update.select left

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def use(self) -> Tensor:
        """Positions that enter the surrogate. [B,T] bool"""
        mine = self.own & self.trains[:, None]
        return mine if self.selected is None else mine & self.selected

    @property
    def sampled(self) -> Tensor:
        """Rows that count and were really sampled, not imagined by a method. [B] bool"""
        return self.counts & self.own.any(1)

    @property
    def valid(self) -> Tensor:
        """Positions that are not padding. [B,T] bool"""
        return torch.arange(self.tokens.shape[1]) < self.length[:, None]

    def put(self, **changed: Any) -> Rows:
        return replace(self, **changed)

    def with_columns(self, **columns: Tensor) -> Rows:
        return replace(self, columns={**self.columns, **columns})

    def take(self, index: Tensor) -> Rows:
        """The rows at `index` ([n] int64 or [B] bool), cut to their longest."""
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        width = int(self.length[index].max()) if len(index) else 0
        chosen: dict[str, Any] = {}
        for name, value in self._tensors().items():
            chosen[name] = value[index][:, :width] if value.ndim > 1 else value[index]
        where = index.tolist()
        return replace(
            self,
            **chosen,
            columns={k: v[index][:, :width] for k, v in self.columns.items()},
            problems=tuple(self.problems[i] for i in where),
            prompts=tuple(self.prompts[i] for i in where),
        )

    def __add__(self, other: Rows) -> Rows:
        """Both, one after the other, padded to the longer one. Columns must be the same."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        joined: dict[str, Any] = {}
        for name, value in self._tensors().items():
            joined[name] = torch.cat([_widen(value, width), _widen(getattr(other, name), width)])
        columns = {k: torch.cat([_widen(v, width), _widen(other.columns[k], width)]) for k, v in self.columns.items()}
        return replace(
            self,
            **joined,
            columns=columns,
            problems=self.problems + other.problems,
            prompts=self.prompts + other.prompts,
            limit=max(self.limit, other.limit),
        )

    def extended(self, which: Tensor, more: Mapping[str, Tensor], length: Tensor, done: Tensor) -> Rows:
        """Rows `which` [n] with `length` [n] own tokens more: `more` holds them and what is known of each. [n,t,...]"""
        total = self.length.index_add(0, which, length)
        width, names = int(total.max()), {f.name for f in fields(self)}
        new = torch.arange(int(length.max())) < length[:, None]  # [n,t]
        i, t = new.nonzero(as_tuple=True)
        at = (which[i], self.length[which[i]] + t)
        whole: dict[str, Any] = {k: _widen(v, width) for k, v in {**self._tensors(), **self.columns}.items()}
        for name, value in {**more, "own": new}.items():
            before = whole.get(name, value.new_zeros(len(self), width, *value.shape[2:]))
            whole[name] = before.index_put(at, value[new])
        whole |= {"length": total, "done": self.done.index_copy(0, which, done)}
        columns = {name: whole.pop(name) for name in [*whole] if name not in names}
        return replace(self, **whole, columns=columns)

    def as_state(self, pool: Sequence[Problem]) -> dict[str, Any]:
        """Tensors and JSON-ready values, for `rows_of_state` to make the rows of; their problems are in `pool`."""
        place = {id(p): pool.index(p) for p in {id(p): p for p in self.problems}.values()}
        return {
            **{name: value.clone() for name, value in self._tensors().items()},
            **{f"columns/{name}": value.clone() for name, value in self.columns.items()},
            "problems": [place[id(p)] for p in self.problems],
            "prompts": [list(prompt) for prompt in self.prompts],
            "limit": self.limit,
        }

    def _tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, [B] and [B,T]."""
        return {f.name: x for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor)}

    def at_end(self, value: Tensor) -> Tensor:
        """value [B] placed at each rollout's last own position (the first of all if it has none), 0 elsewhere. [B,T]"""
        out = torch.zeros(self.tokens.shape, dtype=value.dtype)
        position = torch.arange(self.tokens.shape[1]).expand_as(self.own)
        last = torch.where(self.own, position, 0).max(1).values if self.tokens.shape[1] else None
        return out if last is None else out.scatter(1, last[:, None], value[:, None])


def rows_of_state(state: Mapping[str, Any], pool: Sequence[Problem]) -> Rows:
    """The rows that `Rows.as_state` described."""
    known = {k: v for k, v in state.items() if not k.startswith("columns/")}
    return Rows(
        **known
        | {
            "problems": tuple(pool[i] for i in state["problems"]),
            "prompts": tuple(map(tuple, state["prompts"])),
            "columns": {k.removeprefix("columns/"): v for k, v in state.items() if k not in known},
        }
    )


def _widen(x: Tensor, width: int) -> Tensor:
    if x.ndim < 2 or x.shape[1] == width:
        return x
    return torch.cat([x, x.new_zeros(x.shape[0], width - x.shape[1], *x.shape[2:])], dim=1)
