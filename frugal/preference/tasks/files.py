"""Pairs of responses from the user's own files."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugal.core.errors import BadTask, MissingExtra
from frugal.language.tasks.files import HELD_OUT
from frugal.language.tasks.task import Problem, Split

SIDES = ("chosen", "rejected")
SHOWN = 10  # wrong rows that a message names


@dataclass(frozen=True)
class PairTable:
    """Rows with a prompt, a chosen and a rejected response; nobody scores anything else, unless an oracle is named.

    Rows say "train" or "test" in a field `split`; without it a tenth is held out.
    """

    name: str
    rows: tuple[Mapping[str, Any], ...]
    max_tokens: int = 256

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._splits[split]

    @functools.cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        made = [Problem(row["prompt"], columns=row) for row in self.rows]
        if any(row.get("split") for row in self.rows):
            return {s: [p for p in made if p.columns.get("split") == s] for s in ("train", "test")}
        random.Random(0).shuffle(made)
        held_out = max(1, round(HELD_OUT * len(made)))
        return {"test": made[:held_out], "train": made[held_out:]}


def from_jsonl(path: str) -> PairTable:
    """One JSON object a line: {"prompt", "chosen", "rejected"}, each text or chat messages.

    Raises one `BadTask` that names every wrong line; no line is left out.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadTask(f"cannot read {path}: {error}") from None
    lines = [(f"line {number}", line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return _table(Path(path).stem, path, ((where, _parse(line)) for where, line in lines))


def from_dataset(name: str) -> PairTable:
    """A data set of the `datasets` library, with the same columns: a folder (also of `save_to_disk`) or a hub name."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", f"the data set {name!r}") from None
    try:
        saved = (Path(name) / "dataset_dict.json").exists() or (Path(name) / "state.json").exists()
        splits = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
    except Exception as error:
        raise BadTask(f"cannot load the data set {name!r}: {error}") from None
    splits = splits if isinstance(splits, dict) else {"": splits}
    rows = [
        (f"row {i}" + (f" of {split}" if split else ""), {**row, "split": _split(split, splits)})
        for split, data in splits.items()
        for i, row in enumerate(data)
    ]
    return _table(name, name, rows)


def _split(split: str, splits: Mapping[str, Any]) -> str | None:
    """The split that a row says it is in; None where nothing is held out yet."""
    return None if "test" not in splits else "test" if split == "test" else "train"


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg} at column {error.colno})"


def _table(name: str, source: str, rows: Iterable[tuple[str, Any]]) -> PairTable:
    read = [(where, _read(row)) for where, row in rows]
    wrong = [f"{where}: {row}" for where, row in read if isinstance(row, str)]
    if wrong:
        more = f"\n... and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise BadTask(f"{source}: {len(wrong)} of {len(read)} rows are no pairs\n" + "\n".join(wrong[:SHOWN]) + more)
    if len(read) < 2:
        raise BadTask(f"{source} holds {len(read)} pairs; at least 2 are needed, one of them held out")
    return PairTable(name, tuple({**row, "line": where} for where, row in read if isinstance(row, dict)))


def _read(row: Any) -> dict[str, Any] | str:
    """The row with text as its sides and text or messages as its prompt; in words, what is wrong with it."""
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return "no object with the fields prompt, chosen and rejected"
    row = dict(row)
    for side in SIDES:
        if row.get(side) is None:
            return f"no field {side!r}"
    if "prompt" not in row:  # conversations that share all but their last message
        chats = [row[side] for side in SIDES]
        if not all(isinstance(chat, list) and len(chat) > 1 for chat in chats) or chats[0][:-1] != chats[1][:-1]:
            return "no field 'prompt', and its sides are no conversations that begin alike"
        row |= {"prompt": chats[0][:-1], **{side: chat[-1:] for side, chat in zip(SIDES, chats, strict=True)}}
    if not row["prompt"]:
        return "the prompt is empty"
    if not isinstance(row["prompt"], str) and not all(map(_is_message, row["prompt"])):
        return "the prompt is neither text nor a list of messages"
    for side in SIDES:
        reply = row[side]
        if isinstance(reply, list):
            if len(reply) != 1 or not _is_message(reply[0]):
                return f"{side} is neither text nor one message of the assistant"
            row[side] = reply[0]["content"]
        if not isinstance(row[side], str) or not row[side].strip():
            return f"{side} is empty" if isinstance(row[side], str) else f"{side} is neither text nor a message"
    return "chosen and rejected are the same" if row["chosen"] == row["rejected"] else row


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
    )
