"""Stochastic lot-sizing: what a decision does is known, and the demand that follows is not.

Two machines produce three items. Switching a machine costs money and a unit of output; then demand arrives, and what
cannot be met is lost. The plant of Felizardo et al. 2025 (arXiv 2504.05150, section on the lot-sizing problem and its
released environment), with fewer items, Poisson demand, and figures of our own.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

OUTPUT = np.array([[20.0, 12.0, 6.0], [6.0, 14.0, 20.0]])  # units a step, by machine and item
SETUP_COST = np.array([[0.2, 0.1, 0.2], [0.1, 0.2, 0.1]])  # of switching a machine to an item
SETUP_LOSS = 1.0  # units that a step with a switch does not produce
HOLDING_COST, LOST_SALE = 0.002, 0.03  # of a unit
DEMAND = 8.0  # mean of each item and step
CAPACITY, HORIZON = 60.0, 50  # units of an item; steps


class LotSizing(gymnasium.Env):
    """Observation: stocks [3] and time in [0, 1], and what each machine is set up for, one-hot [2,4] with idle first.

    An action is for each machine an item, from 1, or 0 for idle. `info["post"]` is the observation after the decision
    and before demand, `info["post_reward"]` the share of the reward that is certain by then: minus the setup costs.
    """

    def __init__(self) -> None:
        self.machines, self.items = OUTPUT.shape
        size = self.items + 1 + self.machines * (self.items + 1)
        self.observation_space = Box(0.0, np.inf, (size,), np.float32)
        self.action_space = MultiDiscrete([self.items + 1] * self.machines)
        self.stock, self.setup, self.t = np.zeros(self.items), np.zeros(self.machines, np.int64), 0

    def look(self) -> np.ndarray:
        setup = np.eye(self.items + 1)[self.setup].ravel()
        return np.concatenate([self.stock / CAPACITY, [self.t / HORIZON], setup]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.stock = self.np_random.integers(0, 20, self.items).astype(float)
        self.setup, self.t = np.zeros(self.machines, np.int64), 0
        return self.look(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        setup_cost = self.decide(np.asarray(action))
        info = {"post": self.look(), "post_reward": -setup_cost}
        self.stock -= self.np_random.poisson(DEMAND, self.items)
        lost = LOST_SALE * np.maximum(-self.stock, 0).sum()
        self.stock = self.stock.clip(0, CAPACITY)
        self.t += 1
        reward = -(setup_cost + lost + HOLDING_COST * self.stock.sum())
        return self.look(), float(reward), self.t == HORIZON, False, info

    def decide(self, action: np.ndarray) -> float:
        """The known effect of an action; the cost of its switches. An idle machine forgets what it was set up for."""
        busy = action > 0
        switched = busy & (action != self.setup)
        machine, item = np.flatnonzero(busy), action[busy] - 1
        np.add.at(self.stock, item, OUTPUT[machine, item] - SETUP_LOSS * switched[busy])
        self.setup = np.where(busy, action, 0)
        return float(SETUP_COST[switched, action[switched] - 1].sum())
