"""Runs of the public loop that take a fraction of a second, and a test can look into."""

from typing import Any

import torch

import frugal
from frugal.core.run import Run

SMALL = {
    "dqn": "hidden=(16,), warmup=20, batch=16, capacity=500",
    "td3": "hidden=(16,), warmup=20, batch=16, capacity=500",
    "sac": "hidden=(16,), warmup=20, batch=16, capacity=500",
    "control.reinforce": "hidden=(16,)",
    "a2c": "hidden=(16,)",
    "control.ppo": "hidden=(16,), steps=32, batch=16, epochs=2",
}


def small(base: str, **options: Any) -> str:
    """A base of networks that are small, as text."""
    given = "".join(f", {k}={v!r}" for k, v in options.items())
    return f"{base}({SMALL[base]}{given})"


def launch(recipe: Any, task: Any, samples: int = 200, **options: Any) -> Run:
    return frugal.run(recipe, task, samples=samples, **{"evaluations": 1, "eval_episodes": 1, "threads": 1, **options})


def weights(run: Run) -> torch.Tensor:
    """Every trained weight, in one vector."""
    return torch.cat([group.vector for group in run.net.groups.values()])
