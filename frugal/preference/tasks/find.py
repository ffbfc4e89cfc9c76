"""From a task's name to the task, and who labels it."""

from __future__ import annotations

from typing import Any

from frugal.core.errors import BadTask
from frugal.language.tasks.find import built_in
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
    if name.partition("(")[0] not in BUILT_IN:
        return find_language_task(name, reward)
    if reward is not None:
        raise BadTask(f"{name} scores completions itself; leave --reward out")
    return built_in(name, BUILT_IN)
