"""Environments of a few lines, whose every observation says where it comes from; and what a test looks in with."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from frugal.control.env import Environments
from frugal.core.recipe import Patch


class Counter(gymnasium.Env):
    """Observation: (number of the episode, step within it). Ends after `length` steps: cut, or by termination."""

    def __init__(self, length: int = 3, terminates: bool = False, continuous: bool = False, dtype: Any = np.float32):
        self.observation_space = Box(-np.inf, np.inf, (2,), dtype)
        self.action_space = Box(-1, 1, (1,), np.float32) if continuous else Discrete(2)
        self.length, self.terminates, self.dtype = length, terminates, dtype
        self.episode, self.t, self.seeds = -1, 0, []

    def look(self):
        return np.array([self.episode, self.t], self.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        over = self.t >= self.length
        return self.look(), 1.0, over and self.terminates, over and not self.terminates, {"twice": 2 * self.t}


class Chain(gymnasium.Env):
    """One state, reward 1, cut after one step: its value is 1 / (1 - gamma)."""

    observation_space, action_space = Box(0, 1, (1,), np.float32), Box(-1, 1, (1,), np.float32)

    def __init__(self, discrete: bool = False):
        if discrete:
            self.action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, True, {}


class Noise(gymnasium.Env):
    """Observations from the environment's own generator; ends at random; reward is the action."""

    observation_space, action_space = Box(-9, 9, (3,), np.float32), Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.standard_normal(3).astype(np.float32), {}

    def step(self, action):
        return (
            self.np_random.standard_normal(3).astype(np.float32),
            float(action[0]),
            self.np_random.random() < 0.1,
            False,
            {},
        )


class Pictures(Counter):
    """uint8 pictures whose shade is the step."""

    def __init__(self, side: int = 16, **more: Any):
        super().__init__(**more)
        self.observation_space = Box(0, 255, (side, side, 3), np.uint8)

    def look(self):
        return np.full(self.observation_space.shape, 10 * self.t, np.uint8)


class Tasked(Counter):
    """The task is its length, and is told with the observation."""

    def __init__(self):
        super().__init__()
        self.task_space = Box(2.0, 6.0, (1,))
        self.told = []

    def look(self):
        return np.array([self.length, self.t], np.float32)

    def reset(self, *, seed=None, options=None):
        self.told.append(options["task"])
        self.length = int(options["task"][0])
        return super().reset(seed=seed)


def act(env: Environments, value: float = 0.0) -> torch.Tensor:
    return torch.full((env.n, env.spaces.actions), value)


def run_on(env: Environments, steps: int):
    """Steps of an agent that always does the same, beginning again whenever an episode ends."""
    env.begin(torch.arange(env.n))
    taken = []
    for _ in range(steps):
        step = env.step(act(env))
        taken.append(step)
        if step.ended.any():
            env.begin(step.ended.nonzero()[:, 0])
    return taken


def patch_of(name: str, **places: Any) -> Patch:
    """A patch of the control domain without a file: adds and fills by path (dots as __)."""
    return Patch(name=name, domain="control", **places)
