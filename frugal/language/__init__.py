"""Reinforcement learning of language models: one loop, and every method a patch on it.

from frugal.language import grpo, ead, capo
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
        return find(name.replace("_", "-"), "language")
    except UnknownName as error:
        raise AttributeError(str(error)) from None
