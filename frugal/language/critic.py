"""Value networks: a policy's body with a scalar head, and the critic of `ppo` at work."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import Tensor

from frugal import maths
from frugal.core.optimiser import Optimiser

from .gradient import accumulate, look
from .parts import Critic
from .policy import Column, Now, Policy
from .rows import Rows

WHOLE = sys.maxsize  # tokens of one pass: all that a process has


def with_value_head(body: Policy) -> tuple[torch.nn.Linear, Optimiser]:
    """A scalar head on the states of `body`, zero at first, and the optimiser of both; the language head stays out."""
    head = torch.nn.Linear(body.head.weight.shape[1], 1, dtype=body.head.weight.dtype)
    torch.nn.init.zeros_(head.weight), torch.nn.init.zeros_(head.bias)
    language_head = {id(p) for p in body.head.parameters()} - {id(p) for p in body.backbone.parameters()}
    net = {name: p for name, p in body.trainable().items() if id(p) not in language_head}
    return head, Optimiser(net | {f"value.{name}": p for name, p in head.named_parameters()})


class LiveCritic:
    """A critic at work; its head starts at zero, so that the first advantages are plain returns."""

    def __init__(self, chosen: Critic, body: Policy):
        self.chosen, self.body = chosen, body
        self.head, self.optimiser = with_value_head(body)

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        v = self.values(rows)
        A = maths.gae(r, v, rows.own, self.chosen.gamma, self.chosen.lam)
        self._target, self._before = A + v, v
        return maths.whiten(A, rows.use)

    def values(self, rows: Rows) -> Tensor:
        """V of the state before each token. [B,T]"""
        return look(rows, self, {}, WHOLE)["logp"]

    def learn(self, rows: Rows) -> None:
        c, target, before = self.chosen, self._target, self._before

        def objective(now: Now) -> Tensor:
            v = now.logp
            near = torch.clamp(v, before - c.clip, before + c.clip)
            loss = torch.maximum((v - target).square(), (near - target).square()) / 2
            return maths.masked_mean(loss, rows.use)

        for _ in range(c.epochs):
            accumulate(self, rows, {}, objective, WHOLE)
            self.optimiser.step(c.lr)

    def state_dict(self) -> dict[str, Tensor]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.optimiser.load_state_dict(state)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return self.optimiser.parameters

    def columns(self, rows: Rows, wanted: Mapping[str, Column]) -> Now:
        """V where a policy says log-probabilities, so that it is shared out and trained as a policy is."""
        v = self.head(self.body.body.states(rows, rows.own))[:, 0].float()
        return Now(torch.zeros(rows.own.shape).masked_scatter(rows.own, v), {})
