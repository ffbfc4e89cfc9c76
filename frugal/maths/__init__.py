"""Named mathematics of the literature as pure tensor functions, each with its equation, shapes and source.

Use as `from frugal import maths`, then `maths.gae(...)`: torch is imported at the first call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .advantages import *  # noqa: F403
    from .densities import *  # noqa: F403
    from .divergences import *  # noqa: F403
    from .gaussian_processes import *  # noqa: F403
    from .means import *  # noqa: F403
    from .mixtures import *  # noqa: F403
    from .preferences import *  # noqa: F403
    from .ratios import *  # noqa: F403
    from .returns import *  # noqa: F403

MODULES = (
    "advantages",
    "densities",
    "divergences",
    "gaussian_processes",
    "means",
    "mixtures",
    "preferences",
    "ratios",
    "returns",
)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    for module in MODULES:
        found = importlib.import_module(f"{__name__}.{module}")
        if name in found.__all__:
            globals()[name] = value = getattr(found, name)  # found without this function from now on
            return value
    raise AttributeError(f"frugal.maths has no {name!r}")
