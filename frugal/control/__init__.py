"""Reinforcement learning of controllers: two loops over Gymnasium environments, and every method a patch on them.

from frugal.control import sac, ppo
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Bases and methods by their Python names, loaded at first use; `load` is a saved policy."""
    if name.startswith("__"):
        raise AttributeError(name)
    from frugal.core.errors import UnknownName
    from frugal.registry import find

    if name == "load":
        from .policy import load

        return load
    try:
        return find(name.replace("_", "-"), "control")
    except UnknownName as error:
        raise AttributeError(str(error)) from None
