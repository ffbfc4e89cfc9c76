"""Coverage: what has been seen is worth nothing a second time.

A walk over a grid sees a small disc around every cell that it enters; the episode is worth the density that was seen,
and that is told at its end alone. The density has two hills, so that a walk that has seen one should go to the other.
After the bimodal coverage task of Prajapat et al. 2023 (arXiv 2307.13372), with a hill on each side.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SIDE, HORIZON = 20, 40  # cells; steps
START = (10, 10)
HILLS, WIDTH = ((4.0, 5.0), (15.0, 14.0)), 2.5  # cells
MOVES = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])


def density() -> np.ndarray:
    """[side, side], of sum 100."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    hills = np.sum([np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * WIDTH**2)) for a, b in HILLS], axis=0)
    return np.asarray(100 * hills / hills.sum())


class Coverage(gymnasium.Env):
    """Observation: where, in [-1, 1], and the time in [0, 1]; actions: stay, or go one cell along an axis.

    `info["covers"]` is the density that the cell just entered sees of each cell, [400]: the value of a set of cells
    entered is the sum over those 400 of the largest.
    """

    def __init__(self) -> None:
        self.observation_space = Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = Discrete(len(MOVES))
        self.density = density()
        self.at, self.t, self.seen = np.array(START), 0, np.zeros((SIDE, SIDE))

    def look(self) -> np.ndarray:
        return np.array([*(2 * self.at / (SIDE - 1) - 1), self.t / HORIZON], np.float32)

    def covers(self) -> np.ndarray:
        """What is seen from here, [side, side]."""
        disc = self.at + MOVES
        x, y = disc[((disc >= 0) & (disc < SIDE)).all(1)].T
        out = np.zeros((SIDE, SIDE))
        out[x, y] = self.density[x, y]
        return out

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.t, self.seen = np.array(START), 0, np.zeros((SIDE, SIDE))
        return self.look(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.at = (self.at + MOVES[action]).clip(0, SIDE - 1)
        self.t += 1
        covers, over = self.covers(), self.t == HORIZON
        self.seen = np.maximum(self.seen, covers)
        return self.look(), float(self.seen.sum()) if over else 0.0, over, False, {"covers": covers.ravel()}
