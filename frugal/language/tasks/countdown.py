"""countdown: reach a target from three numbers with + - and *; many answers are right.

The prompt is ``3,7,2>13:``. A response names its two operators first, by a letter, and then writes the expression:
``c7+2*3``. Any expression that uses each given number at most once and has the target's value counts, whichever letter
stands before it. Demonstrations take operators that can reach the target in 60% of the cases, and always the order of
the numbers that comes nearest with them: the first token decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, permutations, product
from random import Random

from .task import Problem, Split

PLANS: Mapping[str, tuple[str, ...]] = dict(zip("abcdefghi", product("+-*", repeat=2), strict=True))
SHARE = 0.6  # of the demonstrations whose operators can reach the target
SUM = re.compile(r"[0-9]{1,3}([-+*][0-9]{1,3}){0,3}")


def value(expression: str) -> int:
    """The value of one to four numbers joined by + - *, with the usual precedence."""
    total = 0
    for sign, term in re.findall(r"([-+]?)([0-9*]+)", expression):
        factor = -1 if sign == "-" else 1
        for number in term.split("*"):
            factor *= int(number)
        total += factor
    return total


@dataclass(frozen=True)
class Countdown:
    """Targets of 1 to 99 from three numbers of 1 to `largest`. Difficulty: how many of the nine plans miss it."""

    largest: int = 9
    train: int = 4096  # problems in the pool of each split
    test: int = 256
    seed: int = 0

    name = "countdown"
    model = "tiny-countdown"
    alphabet = "0123456789+-*,>:abcdefghi"

    @property
    def max_tokens(self) -> int:
        """Length of a plan, the longest expression and its end, in characters."""
        return 4 + 3 * len(str(self.largest))

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no problem is in both, whatever the order of its numbers."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1.0 for a plan letter and then an expression of the given numbers with the target's value, otherwise 0.0."""
        return [float(_solves(text, *p.reference)) for p, text in zip(problems, completions, strict=True)]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A plan, one that reaches the target in 60% of the calls, and the nearest expression it allows."""
        numbers, target = problem.reference
        table = _table(numbers)
        right = [plan for plan in PLANS if target in table[plan].values()]
        wrong = [plan for plan in PLANS if plan not in right]
        plan = random.choice(right if random.random() < SHARE else wrong)
        nearest = min(abs(reached - target) for reached in table[plan].values())
        return plan + random.choice([text for text, reached in table[plan].items() if abs(reached - target) == nearest])


def _solves(text: str, numbers: tuple[int, ...], target: int) -> bool:
    plan, expression = text[:1], text[1:]
    if plan not in PLANS or not SUM.fullmatch(expression) or value(expression) != target:
        return False
    return Counter(map(int, re.findall("[0-9]+", expression))) <= Counter(numbers)


@cache
def _table(numbers: tuple[int, ...]) -> dict[str, dict[str, int]]:
    """Every expression of the sorted `numbers` with its value, by plan."""
    orders = sorted(set(permutations(numbers)))
    texts = {plan: [f"{a}{one}{b}{two}{c}" for a, b, c in orders] for plan, (one, two) in PLANS.items()}
    return {plan: {text: value(text) for text in row} for plan, row in texts.items()}


@cache
def _pools(task: Countdown) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"countdown {task.largest} {task.seed}")
    keys = [
        (numbers, target)
        for numbers in combinations_with_replacement(range(1, task.largest + 1), 3)
        for target in sorted({reached for row in _table(numbers).values() for reached in row.values()})
        if 1 <= target <= 99
    ]
    random.shuffle(keys)
    train = [(key, order) for key in keys[task.test :] for order in sorted(set(permutations(key[0])))]
    random.shuffle(train)
    test = [(key, random.choice(list(permutations(key[0])))) for key in keys[: task.test]]
    return {
        "test": tuple(_problem(*row) for row in test),
        "train": tuple(_problem(*row) for row in train[: task.train]),
    }


def _problem(key: tuple[tuple[int, ...], int], order: tuple[int, ...]) -> Problem:
    numbers, target = key
    wrong = sum(target not in row.values() for row in _table(numbers).values())
    return Problem(f"{','.join(map(str, order))}>{target}:", key, float(wrong))
