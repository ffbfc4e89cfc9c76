"""A vector environment of Gymnasium, whose three ways of resetting itself are made one.

Axes: N environments, E of them beginning, O observation, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate
from torch import Tensor

from frugal.core.errors import BadTask

from .env import Environments


class Vector(Environments):
    """One that steps all its environments at once, and begins their episodes by itself unless that is disabled."""

    vector = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.env = self.envs[0]
        self.mode = self.env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.waiting = np.zeros(self.n, bool)  # this step is a reset
        self.again: Any = None  # observations [N,O] after the reset, of one that resets in the same step
        self.begun = False

    def _sizes(self, first: Any) -> tuple[int, Any, Any]:
        return first.num_envs, first.single_observation_space, first.single_action_space

    def start_over(self) -> None:
        super().start_over()
        self.waiting[:], self.begun = False, False

    def _begin_rows(self, rows: Tensor, said: Mapping[str, Any]) -> None:
        if said:
            raise BadTask(
                f"{self.name} steps its environments by itself, so that nobody else decides what they begin from; "
                "give a function that makes one environment, and envs=N"
            )
        if not self.begun or self.mode == AutoresetMode.DISABLED:
            values = self._reset(rows)
        elif self.mode == AutoresetMode.SAME_STEP:
            values = self.again
        else:  # the next step is the reset
            self.waiting[rows.numpy()] = True
            return
        self._check(values, "an observation")
        self.obs = self.obs.clone()
        self.obs[rows] = torch.from_numpy(values)[rows]
        self._count(rows.numpy())

    def _reset(self, rows: Tensor) -> np.ndarray:
        mask = np.zeros(self.n, bool)
        mask[rows.numpy()] = True
        seeds: Any = [self._seed_of(row, int(k)) for row, k in enumerate(self.episodes)]
        with self._watched("failed in its reset"):
            if not self.begun:
                self.env.action_space.seed(seeds[0])
                self.done[0] = []
            if not isinstance(self.env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):  # one generator for all of them
                seeds = None if self.begun else seeds[0]
            obs, _ = self.env.reset(seed=seeds, options=None if mask.all() else {"reset_mask": mask})
            self.begun = True
            return self._flat_all(obs)

    def _count(self, rows: np.ndarray) -> None:
        """An episode has begun in each of rows [E]."""
        self.episodes[rows] += 1
        self.ret[rows] = self.length[rows] = 0

    def _advance(self, a: np.ndarray, *out: np.ndarray) -> list[Mapping[str, Any]]:
        next, reward, term, cut, valid = out
        with self._watched("failed in a step"):
            action = self.spaces.act(a).reshape(self.n, *self.action_space.shape).astype(self.action_space.dtype)
            obs, r, ended, truncated, info = self.env.step(action)
            self.again = next[:] = self._flat_all(obs)
        over = np.flatnonzero(ended | truncated)
        if self.mode == AutoresetMode.SAME_STEP and "final_obs" in info:
            for row in over:
                next[row] = self._flat(info["final_obs"][row])
        reward[:], term[:], cut[:] = r, ended, truncated
        reward[self.waiting], term[self.waiting], cut[self.waiting] = 0, False, False
        valid &= ~self.waiting
        self._count(self.waiting)
        self.waiting[:] = False
        self.done[0].append(a.copy())
        infos: list[Mapping[str, Any]] = [
            {k: v[row] for k, v in info.items() if k in self.kept} for row in range(self.n)
        ]
        for row in over if "final_info" in info else ():
            infos[row] = {k: v[row] for k, v in info["final_info"].items() if k in self.kept}
        return infos

    def _go_again(self, state: Mapping[str, Any]) -> None:
        self.begin(torch.arange(self.n))
        for a in state.get("done/0", ()):
            ended = self.step(a).ended
            if ended.any():
                self.begin(ended.nonzero()[:, 0])

    def _flat_all(self, obs: Any) -> np.ndarray:
        return np.stack([self._flat(x) for x in iterate(self.env.observation_space, obs)])
