"""Records that travel through the loops. Axes: B rows, or N environments; n or T steps in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Batch:
    """Steps in a row of each of B rows, from replay (n of them) or of a round (T of N environments).

    A row may hold several episodes only if it is of a round; there `ended` says where.
    """

    obs: Tensor  # [B,n,O]
    act: Tensor  # [B,n,A]
    reward: Tensor  # [B,n] the environment's
    next: Tensor  # [B,n,O] true successors
    term: Tensor  # [B,n] bool: no state follows
    cut: Tensor  # [B,n] bool: the episode ends, but its value goes on
    valid: Tensor  # [B,n] bool: a step that happened
    columns: dict[str, Tensor] = field(default_factory=dict)  # {name in `info`: [B,n,*]}
    rows: Tensor | None = None  # [B] where the first steps lie in the replay buffer
    weight: Tensor | None = None  # [B] of the loss
    rng: Any = None  # generator of this round
    z: Any = None  # [B,D] encoded first observations, without gradient
    sets: int = 1  # of weights that collected; row n acted by set n % sets

    @property
    def use(self) -> Tensor:
        return self.valid

    @property
    def ended(self) -> Tensor:
        return self.term | self.cut

    @property
    def state(self) -> Tensor:
        """First observations, [B,O]."""
        return self.obs[:, 0]

    @property
    def action(self) -> Tensor:
        """First actions, [B,A]."""
        return self.act[:, 0]

    def last(self, x: Tensor) -> Tensor:
        """Of x [B,n,...] what stands at each row's last step, [B,...]."""
        if x.shape[1] == 1:
            return x[:, 0]
        return x[torch.arange(len(x)), self.valid.sum(1) - 1]


@dataclass
class Rows:
    """Single steps to learn from in the on-policy loop."""

    obs: Tensor  # [B,O]
    act: Tensor  # [B,A]
    old: Tensor  # [B] log-probability before the round's first update
    A: Tensor  # [B] advantage
    target: Tensor  # [B] of the critic
    set: Tensor  # [B] by which weights it was collected
    term: Tensor  # [B] bool
    cut: Tensor  # [B] bool

    def __len__(self) -> int:
        return len(self.obs)

    def take(self, where: Tensor) -> Rows:
        return Rows(**{name: value[where] for name, value in vars(self).items()})

    @staticmethod
    def join(parts: list[Rows]) -> Rows:
        return (
            parts[0]
            if len(parts) == 1
            else Rows(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})
        )
