"""From a task's name to the task."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from frugal.core.errors import BadTask, UnknownName
from frugal.core.recipe import Frozen
from frugal.core.text import arguments, from_file

from .files import from_dataset, from_jsonl
from .programs import check, code
from .reasoning import Reasoning
from .task import Task
from .watched import Watched


def find_task(name: str, reward: str | None = None) -> Task:
    """The task behind a name:

    - ``modchain``: built in, or with options ``addtrace(digits=4)``
    - ``reasoning:products``: a generator of reasoning-gym, or with options ``reasoning:products(max_digits=3)``
    - ``problems.jsonl`` or ``data:openai/gsm8k``, with `reward` as ``file.py:function``, or ``code``: programs
      that have to pass the tests of a row
    - ``my_task.py:MyTask``: an object, class or function of your own that is, or makes, a task

    Raises `UnknownName` or `BadTask`.
    """
    from . import BUILT_IN

    kind, _, rest = name.partition(":")
    from_rows = name.endswith((".jsonl", ".json")) or kind == "data"
    if from_rows and reward is None:
        raise BadTask(f"{name} has problems but no verifier; give one: --reward my_reward.py:score, or --reward code")
    if reward is not None and not from_rows:
        raise BadTask(f"{name} scores completions itself; leave --reward out")
    if from_rows and reward is not None:
        function = code if reward == "code" else Watched(reward)
        table = from_dataset(rest, function) if kind == "data" else from_jsonl(name, function)
        if reward == "code":
            check(table.rows)
        return table
    if kind == "reasoning" and rest:
        dataset, _, inside = rest.partition("(")
        return Reasoning(dataset, Frozen(arguments(inside.removesuffix(")"), name, name.find("(") + 1)[0]))
    if kind.endswith(".py") and rest:
        return _own(name)
    plain = name.partition("(")[0]
    if plain not in BUILT_IN:
        raise UnknownName("task", plain, [*BUILT_IN, "reasoning:products", "problems.jsonl", "my_task.py:MyTask"])
    return built_in(name, BUILT_IN)


def built_in(name: str, tasks: Mapping[str, Callable[..., Task]]) -> Task:
    """The task of these that a name such as ``addtrace(digits=4)`` means. Raises `UnknownName`, `BadTask`."""
    plain, _, inside = name.partition("(")
    options = arguments(inside.removesuffix(")"), name, len(plain) + 1)[0]
    known = [f.name for f in dataclasses.fields(tasks[plain])]  # type: ignore[arg-type]
    for option, value in options.items():
        if option not in known:
            raise UnknownName(f"option of {plain}", option, known)
        if type(value) is not int:
            raise BadTask(f"{name}: {option}={value!r}; give a whole number")
    return tasks[plain](**options)


def _own(address: str) -> Task:
    found = from_file(address)
    task: Any = found() if inspect.isclass(found) or inspect.isfunction(found) else found
    lacks = [word for word in ("name", "max_tokens", "problems", "score") if not hasattr(task, word)]
    if lacks:
        raise BadTask(f"{address} is no task: it lacks {', '.join(lacks)} (see frugal/language/tasks/task.py)")
    return task  # type: ignore[no-any-return]
