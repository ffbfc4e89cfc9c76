"""Environments by name: the id of a Gymnasium environment, ``file.py:function``, or an object of the user's."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from frugal.core.errors import BadTask, MissingExtra, UnknownName
from frugal.core.stages import task_name
from frugal.core.text import arguments, from_file

Maker = Callable[..., Any]  # keywords such as render_mode -> a new environment, or a vector of them

# what brings environments that Gymnasium does not know by itself, and the package that registers them
EXTRAS = {"mujoco": "mujoco", "ale": "atari", "atari": "atari", "minigrid": "minigrid", "pygame": "play"}
PACKAGES = {
    "ALE/": ("ale_py", "atari"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
    "frugal/": ("frugal.control.tasks", ""),
}


def find_environment(task: Any) -> Maker:
    """A function that makes a new environment at each call. Raises `BadTask`, `UnknownName` or `MissingExtra`."""
    if isinstance(task, str):
        return _by_name(task)
    if isinstance(task, (gymnasium.Env, VectorEnv)):
        return _another(task)
    if callable(task):
        return task  # type: ignore[no-any-return]
    raise BadTask(
        f"{task_name(task)} is no environment; give the id of a Gymnasium environment, file.py:function, an "
        "environment, or a function that makes one"
    )


def _by_name(text: str) -> Maker:
    match = re.fullmatch(r"\s*([^()]+?)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise BadTask(f"{text!r} is no environment; write its id, such as CartPole-v1 or Hopper-v5(frame_skip=2)")
    name, inside = match.group(1), match.group(2) or ""
    options, _ = arguments(inside, text, match.start(2))
    if ".py:" in name:
        path, _, function = name.rpartition(":")
        if not Path(path).is_file():
            raise BadTask(f"{text}: there is no file {path!r}; write path/to/file.py:function")
        make = from_file(f"{path}:{function}")
        return lambda **more: _made(name, make, {**options, **more})
    for prefix, (package, extra) in PACKAGES.items():
        if name.startswith(prefix):
            try:
                gymnasium.register_envs(__import__(package))
            except ImportError:
                raise MissingExtra(extra, name) from None
    return lambda **more: _made(name, lambda **kw: gymnasium.make(name, disable_env_checker=True, **kw), options | more)


def _another(task: Any) -> Maker:
    """The user's own environment first, then others like it."""
    given = [task]

    def make(**more: Any) -> Any:
        if given and not more:
            return given.pop()
        try:
            if task.spec is None:
                return copy.deepcopy(task)
            again = partial(gymnasium.make_vec, task.spec) if isinstance(task, VectorEnv) else task.spec.make
            return _made(task_name(task), again, more)
        except Exception as error:
            raise BadTask(
                f"evaluation needs a second environment like {task_name(task)}, which cannot be copied ({error}); "
                "give a function that makes it"
            ) from None

    return make


def _made(name: str, make: Maker, options: dict[str, Any]) -> Any:
    """A new environment, or one clear message."""
    try:
        return make(**options)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = next((extra for word, extra in EXTRAS.items() if word in str(error).lower()), None)
        if extra is None:
            raise BadTask(f"{name} cannot be made: {error}") from None
        raise MissingExtra(extra, name) from None
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv):
        raise UnknownName("environment", name, gymnasium.registry) from None
    except (gymnasium.error.Error, TypeError, ValueError, ImportError) as error:
        raise BadTask(f"{name} cannot be made: {type(error).__name__}: {error}") from None
