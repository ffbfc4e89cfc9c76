"""CartPole whose constants are the task of an episode, told at the end of every observation, scaled to [0, 1].

``frugal/CartPole-v0(length=(0.05, 5.0))``: the half-length of the pole is another in each episode, from an even
distribution unless a curriculum decides; any of gravity, masscart, masspole, length and force_mag may have a range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Box

from frugal.core.errors import BadTask

CONSTANTS = ("gravity", "masscart", "masspole", "length", "force_mag")


class CartPole(CartPoleEnv):
    """Observation: position, velocity, angle, angular velocity, and the task."""

    def __init__(self, render_mode: str | None = None, **ranges: tuple[float, float]):
        super().__init__(render_mode=render_mode)
        if not ranges:
            raise BadTask("CartPole of no range has no task; give one such as length=(0.5, 2.0), or take CartPole-v1")
        for name, value in ranges.items():
            if name not in CONSTANTS or not isinstance(value, tuple) or len(value) != 2 or not value[0] < value[1]:
                raise BadTask(f"{name}={value!r}: give one of {', '.join(CONSTANTS)} a range such as (0.5, 2.0)")
        low, high = np.array([*ranges.values()], np.float32).reshape(-1, 2).T
        self.names, self.task_space = tuple(ranges), Box(low, high)
        own, zero = self.observation_space, np.zeros_like(low)
        assert isinstance(own, Box)
        self.observation_space = Box(np.append(own.low, zero), np.append(own.high, zero + 1))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """`options` has the "task" [C], a value for each constant that was given a range."""
        task = np.asarray((options or {})["task"], np.float32)
        for name, value in zip(self.names, task.tolist(), strict=True):
            setattr(self, name, value)
        self.total_mass, self.polemass_length = self.masscart + self.masspole, self.masspole * self.length
        self.told = (task - self.task_space.low) / (self.task_space.high - self.task_space.low)
        obs, info = super().reset(seed=seed)
        return self._with_task(obs), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        return self._with_task(obs), reward, terminated, truncated, info

    def get_state(self) -> np.ndarray:
        return np.array(self.state, np.float64)

    def set_state(self, state: np.ndarray) -> np.ndarray:
        self.state = state
        return self._with_task(state)

    def _with_task(self, obs: np.ndarray) -> np.ndarray:
        return np.append(obs, self.told).astype(np.float32)
