"""What a run of the control domain can be told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What a run needs beside recipe, environment, budget and seed; written to run.json."""

    evaluations: int = 10
    eval_episodes: int = 10
    step_seconds: float = 60.0  # an environment that takes longer for one step hangs
    threads: int = 0  # 0: what torch takes; part of what makes a run repeatable
