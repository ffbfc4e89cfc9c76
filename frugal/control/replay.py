"""What was seen, to learn from again: a ring for each environment, all of them in one matrix that is allocated once.

A row is one transition with its true successor, so nothing has to be guessed at the end of an episode. Axes: N rings,
B rows drawn, n steps ahead, O observation, A action dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from frugal.core.errors import BadTask

from .batch import Batch
from .env import Step

FLAGS = ("reward", "term", "cut")  # numbers beside observations and actions


class Replay:
    """At most `capacity` transitions of `rings` environments; row = position * rings + ring.

    Raises `BadTask` if as many observations, of so many bytes each, and their successors exceed the machine's memory.
    """

    def __init__(self, capacity: int, rings: int, observation: int = 0):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        needed = 2 * observation * capacity
        if needed > memory:
            raise BadTask(
                f"a replay buffer of {capacity} transitions takes {needed / 1e9:.0f} GB, and this machine has "
                f"{memory / 1e9:.0f} GB; give the recipe a smaller capacity, or the environment smaller "
                "observations, in a function that makes it (gymnasium.wrappers.AtariPreprocessing and "
                "FrameStackObservation)"
            )
        self.rings, self.length = rings, max(capacity // rings, 1)
        self.head = torch.zeros(rings, dtype=torch.int64)  # where the next transition goes
        self.size = torch.zeros(rings, dtype=torch.int64)
        self.columns: dict[str, tuple[int, int]] = {}  # {name: where it lies in a row of `data`}
        self.data = torch.zeros(0)  # [capacity,*] float32: everything but pictures
        self._rows = self.data.numpy()  # the same memory
        self.pictures: dict[str, Tensor] = {}  # obs and next [capacity,H,W,C] uint8, where observations are pictures
        self.priority = torch.zeros(self.length * rings)  # of drawing a row, for who draws by it
        self.new_priority = 1.0  # that a new row gets

    def __len__(self) -> int:
        return int(self.size.sum())

    @property
    def used(self) -> int:
        """Rows before this one may be filled, the others are not."""
        return int(self.size.max()) * self.rings

    def add(self, step: Step) -> None:
        """Keep the transitions of a step, over the oldest ones once the ring is full."""
        if not self.columns:
            self._allocate(step)
        rings = step.valid.nonzero()[:, 0]
        at = self.head[rings] * self.rings + rings
        where, whole = at.numpy(), len(rings) == self.rings
        for name, (low, high) in self.columns.items():
            x = step.columns[name] if name in step.columns else getattr(step, name)
            self._rows[where, low:high] = (x if whole else x[rings]).numpy().reshape(len(rings), high - low)
        for name, store in self.pictures.items():
            store[at] = getattr(step, name)[rings]
        self.priority[at] = self.new_priority
        self.head[rings] = (self.head[rings] + 1) % self.length
        self.size[rings] = (self.size[rings] + 1).clamp(max=self.length)

    def _allocate(self, step: Step) -> None:
        pictures = step.obs.dtype == torch.uint8
        seen = ("obs", "next")
        named = {name: getattr(step, name) for name in (*(() if pictures else seen), "act", *FLAGS)} | step.columns
        at = 0
        for name, x in named.items():
            width = x[0].numel()
            self.columns[name] = (at, at + width)
            at += width
        self._take(torch.zeros(self.length * self.rings, at))
        for name in seen if pictures else ():
            self.pictures[name] = torch.zeros(self.length * self.rings, *step.obs.shape[1:], dtype=torch.uint8)

    def _take(self, data: Tensor) -> None:
        self.data, self._rows = data, data.numpy()

    def uniform(self, B: int, rng: torch.Generator) -> Tensor:
        """B rows, each stored transition as likely; with replacement."""
        if self.rings == 1:
            return torch.randint(int(self.size[0]), (B,), generator=rng)
        ends = self.size.cumsum(0)
        at = torch.randint(int(ends[-1]), (B,), generator=rng)
        ring = torch.searchsorted(ends, at, right=True)
        return (at - (ends - self.size)[ring]) * self.rings + ring

    def window(self, rows: Tensor, n: int) -> Batch:
        """The n steps from rows [B] on, fewer (`valid`) where the episode or the ring ends before."""
        at = rows[:, None]
        if n > 1:
            ring, first = rows % self.rings, rows // self.rings
            position = (first[:, None] + torch.arange(n)) % self.length
            at = position * self.rings + ring[:, None]
        data = self.data[at]
        named = {name: data[..., low:high] for name, (low, high) in self.columns.items()}
        term, cut = named.pop("term")[..., 0] > 0, named.pop("cut")[..., 0] > 0
        valid = torch.ones_like(term)
        if n > 1:
            over = term | cut | ((position + 1) % self.length == self.head[ring][:, None])
            valid[:, 1:] = over[:, :-1].cumsum(1) == 0
        seen = {name: store[at] for name, store in self.pictures.items()} or named
        return Batch(
            obs=seen["obs"],
            act=named.pop("act"),
            reward=named.pop("reward")[..., 0],
            next=seen["next"],
            term=term,
            cut=cut,
            valid=valid,
            columns={name: x for name, x in named.items() if name not in ("obs", "next")},
            rows=rows,
        )

    def state_dict(self) -> dict[str, Any]:
        """The filled part alone."""
        if not self.columns:
            return {}
        return {
            "head": self.head,
            "size": self.size,
            "columns": {name: list(at) for name, at in self.columns.items()},
            "data": self.data[: self.used],
            "priority": self.priority[: self.used],
            "new_priority": self.new_priority,
            **{f"pictures/{name}": store[: self.used] for name, store in self.pictures.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        self.head.copy_(state["head"])
        self.size.copy_(state["size"])
        self.columns = {name: (low, high) for name, (low, high) in state["columns"].items()}
        self._take(torch.zeros(self.length * self.rings, state["data"].shape[1]))
        self.data[: self.used] = state["data"]
        self.priority[: self.used] = state["priority"]
        self.new_priority = state["new_priority"]
        for name in ("obs", "next"):
            saved = state.get(f"pictures/{name}")
            if saved is not None:
                store = torch.zeros(self.length * self.rings, *saved.shape[1:], dtype=torch.uint8)
                store[: self.used] = saved
                self.pictures[name] = store
