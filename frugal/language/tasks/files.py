"""Tasks from the user's own files: a JSONL file or a data set with a reward function."""

from __future__ import annotations

import functools
import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.core.errors import BadTask, MissingExtra

from .task import Problem, Split

HELD_OUT = 0.1  # share of rows without a field "split" that is held out
Reward = Callable[..., Sequence[float]]


@dataclass(frozen=True)
class Table:
    """Rows with a field `prompt` (text or chat messages), scored by the user's function.

    The function is called as ``reward(prompts=[...], completions=[...], field=[...], ...)`` with one list for each
    field of the rows that it names (all of them if it takes ``**kwargs``), and returns one number a completion.
    Rows say "train" or "test" in a field `split`; without it a tenth is held out.
    """

    name: str
    rows: tuple[Mapping[str, Any], ...]
    reward: Reward
    max_tokens: int = 256

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        fields = {key: [p.columns.get(key) for p in problems] for key in problems[0].columns}
        offered = {**fields, "prompts": [p.prompt for p in problems], "completions": list(completions)}
        return list(self.reward(**{k: v for k, v in offered.items() if self._takes(k)}))

    def demonstrate(self, problem: Problem, draw: random.Random) -> str:
        if "response" not in problem.columns:
            raise BadTask(f'{self.name}: sft imitates the field "response", and a row has none')
        return problem.columns["response"]

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        made = [(row.get("split"), Problem(row["prompt"], row.get("answer"), columns=row)) for row in self.rows]
        if any(split for split, _ in made):
            return {s: [p for split, p in made if split == s] for s in ("train", "test")}
        problems = [p for _, p in made]
        random.Random(0).shuffle(problems)
        held_out = max(1, round(HELD_OUT * len(problems)))
        return {"test": problems[:held_out], "train": problems[held_out:]}

    def _takes(self, name: str) -> bool:
        parameters = inspect.signature(self.reward).parameters.values()
        return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def from_jsonl(path: str, reward: Reward, **options: Any) -> Table:
    """One JSON object a line, each with a field `prompt`. Raises `BadTask` with the number of the wrong line."""
    rows = []
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadTask(f"cannot read {path}: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadTask(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(row, dict) or "prompt" not in row:
            raise BadTask(f'{path}, line {number}: expected an object with a field "prompt"')
        if not row["prompt"]:
            raise BadTask(f"{path}, line {number}: the prompt is empty")
        rows.append(row)
    if len(rows) < 2:
        raise BadTask(f"{path} holds {len(rows)} problems; at least 2 are needed, one of them held out")
    return Table(Path(path).stem, tuple(rows), reward, **options)


def from_dataset(name: str, reward: Reward, **options: Any) -> Table:
    """A data set of the `datasets` library: a hub name or a folder; columns `prompt` (or `question`), others free."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", f"the data set {name!r}") from None
    try:
        splits = datasets.load_dataset(name)
    except Exception as error:
        raise BadTask(f"cannot load the data set {name!r}: {error}") from None
    rows = [
        {**row, "prompt": row.get("prompt") or row.get("question"), "split": "test" if split == "test" else "train"}
        for split, data in splits.items()
        for row in data
    ]
    if not all(row["prompt"] for row in rows):
        raise BadTask(f'the data set {name!r} has rows without a column "prompt" or "question"')
    if "test" not in splits:
        rows = [{**row, "split": None} for row in rows]
    return Table(name, tuple(rows), reward, **options)
