"""Language tasks: the protocol, the built-in ones, and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...core.errors import UnknownName
from .addtrace import AddTrace
from .cipher import Cipher
from .countdown import Countdown
from .modchain import ModChain
from .task import Problem, Split, Task, TinyTask
from .two_mode import Overthink, TwoMode

BUILT_IN: Mapping[str, Callable[..., TinyTask]] = {
    task.name: task for task in (ModChain, AddTrace, Countdown, TwoMode, Overthink, Cipher)
}


def built_in(name: str) -> TinyTask:
    """The built-in task of that name. Raises `UnknownName`."""
    if name not in BUILT_IN:
        raise UnknownName("task", name, BUILT_IN)
    return BUILT_IN[name]()


__all__ = ["BUILT_IN", "Problem", "Split", "Task", "built_in"]
