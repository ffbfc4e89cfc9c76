"""addtrace: addition of two n-digit numbers through a trace of columns from right to left.

The prompt shows 47 and 85 as they stand one above the other, column by column: ``48,75=`` (from ``47+85=`` a tiny model
does not find the columns within minutes). The trace has two characters a column, the digit of the sum and the carry
that leaves it, and then comes the answer: ``2131=132``. Only what follows the last ``=`` is scored. Demonstrations of
more than two digits drop carries, the more of them the longer the numbers: short sums are always solved, long ones
almost never, and what helps with one length helps with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import cycle, islice
from random import Random

from .task import Problem, Split


def trace(left: int, right: int, digits: int, slips: float, random: Random) -> str:
    """The columns and the answer read from them; each carry is dropped with probability `slips`."""
    columns, answer, carry = "", "", 0
    for _ in range(digits):
        carry, digit = divmod(left % 10 + right % 10 + carry, 10)
        if carry and random.random() < slips:
            carry = 0
        columns += f"{digit}{carry}"
        answer = f"{digit}{answer}"
        left, right = left // 10, right // 10
    return f"{columns}={'1' if carry else ''}{answer}"


@dataclass(frozen=True)
class AddTrace:
    """Sums of two numbers of 1 to `digits` digits, shares as digits ** -tail. Difficulty: the digits of each."""

    digits: int = 6
    tail: int = 0  # 0: equal shares; above it long sums are rare, and so are long responses
    train: int = 4096  # problems in the pool of each split
    test: int = 256
    seed: int = 0

    name = "addtrace"
    model = "tiny-addtrace"
    alphabet = "0123456789,="

    @property
    def max_tokens(self) -> int:
        """Length of the longest trace and its end, in characters."""
        return 3 * self.digits + 3

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no problem is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1.0 where the text after the last = is the sum and nothing else, otherwise 0.0."""
        pairs = zip(problems, completions, strict=True)
        return [float(text.rpartition("=")[1:] == ("=", p.reference)) for p, text in pairs]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A trace that is right up to 2 digits, and beyond drops each carry with probability 0.55, 0.65, 0.75, 0.85."""
        columns = str(problem.prompt).removesuffix("=").split(",")
        left, right = ("".join(column[i] for column in columns) for i in range(2))
        return trace(
            int(left), int(right), len(left), 0.0 if len(left) < 3 else min(0.25 + len(left) / 10, 0.9), random
        )


def _columns(left: int, right: int) -> str:
    return ",".join(f"{a}{b}" for a, b in zip(str(left), str(right), strict=True)) + "="


def _problem(left: int, right: int) -> Problem:
    digits = len(str(left))
    columns = trace(left, right, digits, 0.0, Random()).partition("=")[0]
    return Problem(_columns(left, right), str(left + right), float(digits), {"solution": columns})


@cache
def _pools(task: AddTrace) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"addtrace {task.digits} {task.seed}")
    pools: dict[Split, list[Problem]] = {"test": [], "train": []}
    up_to = [sum(Fraction(d) ** -task.tail for d in range(1, n + 1)) for n in range(task.digits + 1)]
    for digits in range(1, task.digits + 1):
        before, here = up_to[digits - 1] / up_to[-1], up_to[digits] / up_to[-1]
        test, train = (int(n * here) - int(n * before) for n in (task.test, task.train))
        lowest, highest = (10 ** (digits - 1), 10**digits - 1) if digits > 1 else (0, 9)
        drawn: dict[tuple[int, int], None] = {}
        while len(drawn) < min(test + train, (highest - lowest + 1) ** 2):
            drawn[random.randint(lowest, highest), random.randint(lowest, highest)] = None
        made = [_problem(left, right) for left, right in drawn]
        cut = min(test, len(made) // 2)  # there are only a hundred sums of one digit
        pools["test"] += islice(cycle(made[:cut]), test)
        pools["train"] += islice(cycle(made[cut:]), train)
    return {split: tuple(pool) for split, pool in pools.items()}
