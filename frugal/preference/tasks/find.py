"""From a task's name to the task, and who labels it."""

from __future__ import annotations

import dataclasses
from typing import Any

from frugal.core.errors import BadTask, UnknownName
from frugal.core.text import arguments
from frugal.language.tasks.find import find_task as find_language_task
from frugal.language.tasks.task import Task

from ..options import Options
from ..oracles import Labelled, find_oracle
from . import BUILT_IN
from .files import from_dataset, from_jsonl


def find_task(name: str, options: Options | None = None) -> Task:
    """The task behind a name:

    - ``rm-lab``, ``pairs(cyclic=60)``: built in
    - ``pairs.jsonl`` or ``data:folder`` without `reward`: pairs of responses with their labels
    - whatever the language domain knows, labelled by its score

    With `options.label` somebody else labels (`find_oracle`). Raises `UnknownName` or `BadTask`.
    """
    options = options or Options()
    task = _find(name, options.reward)
    return Labelled(task, find_oracle(options.label)) if options.label else task  # type: ignore[no-any-return]


def _find(name: str, reward: str | None) -> Any:
    kind, _, rest = name.partition(":")
    if reward is None and kind == "data":
        return from_dataset(rest)
    if reward is None and name.endswith((".jsonl", ".json")):
        return from_jsonl(name)
    plain, _, inside = name.partition("(")
    if plain not in BUILT_IN:
        return find_language_task(name, reward)
    if reward is not None:
        raise BadTask(f"{name} scores completions itself; leave --reward out")
    chosen: dict[str, Any] = arguments(inside.removesuffix(")"), name, len(plain) + 1)[0]
    known = [f.name for f in dataclasses.fields(BUILT_IN[plain])]  # type: ignore[arg-type]
    for option, value in chosen.items():
        if option not in known:
            raise UnknownName(f"option of {plain}", option, known)
        if type(value) is not int:
            raise BadTask(f"{name}: {option}={value!r}; give a whole number")
    return BUILT_IN[plain](**chosen)
