"""What a recipe has to know of an environment: observations as float32 rows or uint8 pictures, actions as rows.

A continuous action is in [-1, 1] everywhere but in the environment itself; that is what the buffer holds and what a
critic sees. A discrete action is a whole number from 0 in each of its dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces as gym_spaces

from frugal.core.errors import BadTask


@dataclass(frozen=True)
class Spaces:
    """Plain data, so that it can be written beside a saved policy."""

    shape: tuple[int, ...]  # of an observation: (O,), or height, width and channels of a picture
    pixels: bool
    low: tuple[float, ...] = ()  # bounds of the actions, where they are continuous
    high: tuple[float, ...] = ()
    choices: tuple[int, ...] = ()  # of each dimension, where they are discrete
    first: tuple[int, ...] = ()  # what the environment calls choice 0
    task_low: tuple[float, ...] = ()  # of task parameters, where the environment takes them
    task_high: tuple[float, ...] = ()
    action_shape: tuple[int, ...] = field(default=(), compare=False)  # the environment's own; no network sees it
    action_dtype: str = field(default="float32", compare=False)

    @property
    def continuous(self) -> bool:
        return not self.choices

    @property
    def actions(self) -> int:
        """Dimensions of an action, A."""
        return len(self.choices or self.low)

    def act(self, a: np.ndarray) -> np.ndarray:
        """What the environments take: a [N,A] -> [N,A] within the bounds, or whole numbers as they call them."""
        if not self.continuous:
            return a.astype(np.int64) + self._bounds[0]
        low, span = self._bounds
        return low + (np.clip(a, -1, 1) + 1) * (0.5 * span)

    def own(self, a: np.ndarray) -> Any:
        """One action that `act` gave, [A], in the environment's own shape and dtype."""
        return a.reshape(self.action_shape).astype(self.action_dtype)[()]

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.continuous:
            return np.array(self.first), np.array(self.choices)
        low = np.array(self.low, np.float32)
        return low, np.array(self.high, np.float32) - low

    def as_data(self) -> dict[str, Any]:
        """JSON-ready."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Spaces:
        """What `as_data` said."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Spaces(**values)


def actions(space: gym_spaces.Space, name: str) -> dict[str, Any]:
    """The fields of `Spaces` that an action space gives. Raises `BadTask` for one that no recipe handles."""
    own = {"action_shape": space.shape, "action_dtype": str(space.dtype)}
    if isinstance(space, gym_spaces.Discrete):
        return {"choices": (int(space.n),), "first": (int(space.start),), **own}
    if isinstance(space, gym_spaces.MultiDiscrete):
        first = space.start if space.start is not None else np.zeros_like(space.nvec)
        return {
            "choices": tuple(map(int, np.ravel(space.nvec))),
            "first": tuple(map(int, np.ravel(first))),
            **own,
        }
    if isinstance(space, gym_spaces.MultiBinary):
        return {"choices": (2,) * int(np.prod(space.shape)), "first": (0,) * int(np.prod(space.shape)), **own}
    if isinstance(space, gym_spaces.Box) and np.issubdtype(space.dtype, np.floating):
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise BadTask(
                f"{name} has actions without bounds, {space}; give it some with gymnasium.wrappers.RescaleAction or "
                "ClipAction, in a function that makes the environment"
            )
        return {"low": tuple(map(float, space.low.ravel())), "high": tuple(map(float, space.high.ravel())), **own}
    raise BadTask(f"{name} has the action space {space}; recipes handle Box, Discrete, MultiDiscrete and MultiBinary")


def observations(space: gym_spaces.Space, name: str) -> tuple[tuple[int, ...], bool, Callable[[Any], np.ndarray]]:
    """(shape, whether pictures, one observation of the environment -> array). Raises `BadTask` if it has no size.

    Pictures have their channels last. Of a Dict the entries that Gymnasium cannot turn into numbers, such as MiniGrid's
    mission, are left out with a warning.
    """
    if isinstance(space, gym_spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 2:
        return (*space.shape, 1), True, lambda x: np.asarray(x)[..., None]
    if isinstance(space, gym_spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
        first, height, width = space.shape
        if first < width:  # channels come first
            return (height, width, first), True, lambda x: np.moveaxis(np.asarray(x), 0, 2)
        return space.shape, True, np.asarray
    if isinstance(space, gym_spaces.Box):
        return (int(np.prod(space.shape)),), False, lambda x: np.asarray(x, np.float32).reshape(-1)
    if isinstance(space, gym_spaces.Dict):
        kept = {key: each for key, each in space.items() if _flattens(each)}
        if kept and (left := space.keys() - kept.keys()):
            warnings.warn(f"policies on {name} do not see {', '.join(sorted(left))}: it is no number", stacklevel=2)
            shape, pixels, flat = observations(gym_spaces.Dict(kept), name)
            return shape, pixels, lambda x: flat({key: x[key] for key in kept})
    flat_space = gym_spaces.utils.flatten_space(space) if _flattens(space) else space
    if not isinstance(flat_space, gym_spaces.Box):
        raise BadTask(f"{name} has the observation space {space}, whose size is not fixed; wrap it into a Box or Dict")
    return flat_space.shape, False, lambda x: np.asarray(gym_spaces.utils.flatten(space, x), np.float32)


def _flattens(space: gym_spaces.Space) -> bool:
    """Whether Gymnasium can turn what is in a space into numbers, be they of a fixed size or not."""
    try:
        gym_spaces.utils.flatten_space(space)
    except NotImplementedError:
        return False
    return True
