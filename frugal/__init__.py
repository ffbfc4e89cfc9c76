"""Frugal: reinforcement learning that spends the fewest samples.

import frugal
from frugal.language import grpo, ead, capo

run = frugal.run(grpo() + ead(hot=1.3) + capo(), "modchain", samples=4000, seed=0, out="runs/a")
frugal.compare("modchain", [grpo(), grpo() + ead()], samples=4000, seeds=3, out="runs/cmp")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["compare", "recipe", "resume", "run"]

if TYPE_CHECKING:
    from .api import resume, run
    from .evidence.compare import compare
    from .registry import recipe


def __getattr__(name: str) -> Any:
    """Load a function at its first use: `import frugal` takes milliseconds."""
    import importlib

    places = {"run": ".api", "resume": ".api", "compare": ".evidence.compare", "recipe": ".registry"}
    if name not in places:
        raise AttributeError(f"frugal has no {name!r}")
    return getattr(importlib.import_module(places[name], __name__), name)
