"""The reward of tasks whose answer is a Python program: do its tests pass? Programs run in `frugal.sandbox` only."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from frugal import sandbox
from frugal.core.errors import BadTask

BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def code(completions: Sequence[str], tests: Sequence[Any]) -> list[float]:
    """1 for each completion whose program passes all tests of its row, otherwise 0.

    The program is the last fenced block of a completion, or all of it. The tests of a row are Python statements, a text
    or a list of texts, run after the program in the same process; or a list of {"input": text, "output": text}, what
    the program reads and has to print, space at the end of lines apart. Statements take a program at its word (one that
    returns an object equal to everything passes); pairs cannot be cheated in this way.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(map(float, pool.map(_passes, completions, tests)))


def check(rows: Iterable[Mapping[str, Any]]) -> None:
    """Raise before a run what it would come to: `NoSandbox`, or `BadTask` for a row whose tests cannot be read."""
    sandbox.run("")
    for row in rows:
        _read(row.get("tests"))


def _passes(completion: str, tests: Any) -> bool:
    program = (BLOCK.findall(completion) or [completion])[-1]
    statements, pairs = _read(tests)
    if statements:
        end = secrets.token_hex()  # a program that exits before its tests does not pass them
        result = sandbox.run("\n".join([program, *statements, f"__import__('os').write(1, b'{end}')"]))
        return result.status == "ok" and end in result.stdout
    results = ((sandbox.run(program, given), wanted) for given, wanted in pairs)
    return all(result.status == "ok" and _lines(result.stdout) == _lines(wanted) for result, wanted in results)


def _read(tests: Any) -> tuple[list[str], list[tuple[Any, Any]]]:
    """Statements, or pairs of input and output."""
    tests = [tests] if isinstance(tests, str) else tests
    if isinstance(tests, list) and tests:
        if all(isinstance(test, str) for test in tests):
            return tests, []
        pairs = [(test.get("input"), test.get("output")) for test in tests if isinstance(test, dict)]
        if len(pairs) == len(tests) and all(isinstance(text, str) for pair in pairs for text in pair):
            return [], pairs
    raise BadTask(
        'the reward "code" takes a field "tests" of every row, Python statements or a list of '
        f'{{"input": text, "output": text}}; one row has {tests!r}'
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
