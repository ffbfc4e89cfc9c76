"""Torch, imported at its first use: recipes can be listed, shown and compared without the seconds it takes."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first read."""

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(sys.modules.get(self.__name__) or importlib.import_module(self.__name__), attribute)
        setattr(self, attribute, value)  # found without this function from now on
        return value


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
