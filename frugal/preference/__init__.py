"""Learning from comparisons, on the policies, runs and evidence of the language domain.

from frugal.preference import dpo, online_dpo, rlhf, reward_model
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Bases and methods by their Python names, loaded at first use."""
    if name.startswith("__"):
        raise AttributeError(name)
    from frugal.core.errors import UnknownName
    from frugal.registry import find

    try:
        return find(name.replace("_", "-"), "preference")
    except UnknownName as error:
        raise AttributeError(str(error)) from None
