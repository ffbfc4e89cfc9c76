"""Whether what a method remembers survives a kill."""

from pathlib import Path
from typing import Any

import pytest

import frugal
from tests.control.test_resume import Killed, checkpoints_every_other_round, killing, left_behind


def same_after_a_kill(recipe: str, task: Any, folder: Path, samples: int = 400, at: int = 5) -> bool:
    """Whether a run that dies at line `at` of its curve resumes to the bits of one that does not."""
    options = {"samples": samples, "seed": 3, "evaluations": 3, "eval_episodes": 2, "threads": 1}
    with checkpoints_every_other_round():
        frugal.run(recipe, task, out=folder / "whole", **options)
        with pytest.raises(Killed):
            frugal.run(recipe, task, out=folder / "killed", reporter=killing(at), **options)
        assert list((folder / "killed" / "checkpoints").iterdir()), "killed before there was anything to resume from"
        frugal.resume(folder / "killed", task=None if isinstance(task, str) else task)
    return left_behind(folder / "whole") == left_behind(folder / "killed")
