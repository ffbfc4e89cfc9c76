"""`frugal play`: what a finished run's policy does, in numbers or as a picture that moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugal.core.errors import BadRun, BadTask, MissingExtra
from frugal.core.run import read_asked

from .env import environments
from .evaluate import play as play_episodes
from .find import find_environment
from .policy import Policy, load

FRAMES = 500  # at most, in a GIF


def play(run: Path, episodes: int, seed: int, gif: Path | None, task: Any = None) -> list[float]:
    """Returns of `episodes` episodes of a finished run's policy; the first of them is written to `gif`."""
    asked = read_asked(run)
    if asked["domain"] != "control":
        raise BadRun(f"{run} is a run of the {asked['domain']} domain; only controllers play episodes")
    policy = load(run / "model")
    make = find_environment(task if task is not None else asked["task"])
    if gif is not None:
        record(make, policy, seed, gif, asked["task"])
    env = environments(make, 1, seed, asked["task"])
    if env.spaces != policy.spaces:
        raise BadRun(f"the policy in {run} was trained on other spaces than those of {env.name}")
    try:
        return play_episodes(env, policy.act, episodes)[0].tolist()  # type: ignore[no-any-return]
    finally:
        env.close()


def record(make: Any, policy: Policy, seed: int, gif: Path, name: str) -> None:
    """Write the first episode of `play` as a GIF."""
    import gymnasium
    from PIL import Image

    env = environments(lambda: make(render_mode="rgb_array"), 1, seed, name)
    shown = env.envs[0]
    if shown.render_mode != "rgb_array":
        raise BadTask(f"{name} cannot be drawn; --gif takes an environment with render_mode='rgb_array'")
    try:
        env.begin(torch.arange(1))
        frames, over = [shown.render()], False
        while not over and len(frames) < FRAMES:
            over = bool(env.step(policy.act(env.obs)).ended)
            frames.append(shown.render())
    except gymnasium.error.DependencyNotInstalled:
        raise MissingExtra("play", "--gif") from None
    finally:
        env.close()
    pictures = [Image.fromarray(np.asarray(frame)).quantize(64) for frame in frames]
    duration = 1000 // int(shown.metadata.get("render_fps", 30))
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=max(duration, 20), loop=0)
