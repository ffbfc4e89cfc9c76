"""Tiny models of this domain's tasks. ``python -m frugal.preference.tasks.tiny rm-lab`` makes a shipped file again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugal.core.errors import BadModel
from frugal.lazy import torch

from . import BUILT_IN

WEIGHTS = Path(__file__).parent / "weights"
STEPS: Mapping[str, int] = {"rm-lab": 1500, "pairs": 500}  # of the warm start


def load_tiny(name: str) -> tuple[Any, Any]:
    """The shipped model of a task, in float32."""
    from frugal.language.tiny import shipped

    name = name.removeprefix("tiny-")
    path = WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        raise BadModel(
            f"the weights {path.name} are missing; make them with: python -m frugal.preference.tasks.tiny {name}"
        )
    return shipped(BUILT_IN[name](), path)


def rebuild(name: str, seed: int = 0) -> dict[str, Any]:
    """Make the shipped weights of a task again, in about a minute; returns what the file says of them."""
    from safetensors.torch import save_file

    from frugal.language.tiny import warm_start

    model, _ = warm_start(BUILT_IN[name](), STEPS[name], seed)
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    facts = {"task": name, "steps": STEPS[name], "seed": seed, "torch": torch.__version__.split("+")[0]}
    WEIGHTS.mkdir(exist_ok=True)
    save_file(weights, WEIGHTS / f"{name}.safetensors", {key: json.dumps(value) for key, value in facts.items()})
    return facts


if __name__ == "__main__":
    for task_name in sys.argv[1:] or STEPS:
        print(rebuild(task_name))
