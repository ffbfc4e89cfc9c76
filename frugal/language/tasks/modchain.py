"""modchain: a chain such as 7*3+5*2 modulo 10, reduced by one operation a step.

The prompt is ``7*3+5*2=`` and the trace writes the chain that is left after each step: ``1+5*2=1+0=1``. Only what
follows the last ``=`` is scored. Demonstrations mix four orders of evaluation and the right one is rare, so a model
that imitates them is exact in single steps and usually takes them in a wrong order: the first step decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from .task import Problem, Split

ORDERS: Mapping[str, Callable[[str], int]] = {  # the operators that are left -> the place of the next one to apply
    "precedence": lambda operators: max(operators.find("*"), 0),
    "left to right": lambda operators: 0,
    "right to left": lambda operators: len(operators) - 1,
    "sums first": lambda operators: max(operators.find("+"), 0),
}
SHARES = (0.15, 0.4, 0.35, 0.1)  # of the demonstrations, in the order of ORDERS


def draw_chain(operands: int, random: Random) -> str:
    """A random chain of one-digit operands joined by + and *."""
    chain = random.choice("0123456789")
    for _ in range(operands - 1):
        chain += random.choice("+*") + random.choice("0123456789")
    return chain


def trace(chain: str, order: str = "precedence") -> list[str]:
    """What is left of `chain` after each step of `order`; the last entry is the value, one digit."""
    steps = []
    while len(chain) > 1:
        i = 2 * ORDERS[order](chain[1::2])
        left, right = int(chain[i]), int(chain[i + 2])
        value = (left * right if chain[i + 1] == "*" else left + right) % 10
        chain = f"{chain[:i]}{value}{chain[i + 3 :]}"
        steps.append(chain)
    return steps


@dataclass(frozen=True)
class ModChain:
    """Chains of `operands` digits whose order matters. Difficulty: how many orders give a wrong answer, 1 to 3."""

    operands: int = 4
    train: int = 4096  # problems in the pool of each split
    test: int = 256
    seed: int = 0

    name = "modchain"
    model = "tiny-modchain"
    alphabet = "0123456789+*="

    @property
    def max_tokens(self) -> int:
        """Length of a full trace and its end, in characters."""
        return self.operands * (self.operands - 1)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no problem is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1.0 where the text after the last = is the right digit and nothing else, otherwise 0.0."""
        pairs = zip(problems, completions, strict=True)
        return [float(text.rpartition("=")[1:] == ("=", p.reference)) for p, text in pairs]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A trace without a slip, in the right order for 15% of the calls."""
        (order,) = random.choices(list(ORDERS), SHARES)
        return "=".join(trace(str(problem.prompt).removesuffix("="), order))


def _problem(chain: str) -> Problem:
    answers = [trace(chain, order)[-1] for order in ORDERS]
    wrong = sum(answer != answers[0] for answer in answers)
    return Problem(f"{chain}=", answers[0], float(wrong), {"solution": "=".join(trace(chain)[:-1])})


@cache
def _pools(task: ModChain) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"modchain {task.operands} {task.seed}")
    drawn: dict[str, Problem] = {}
    for _ in range(10 * (task.train + task.test)):  # many more than it takes, unless there are few such chains
        if len(drawn) == task.train + task.test:
            break
        problem = _problem(draw_chain(task.operands, random))
        if problem.difficulty:
            drawn[str(problem.prompt)] = problem
    pool = tuple(drawn.values())
    return {"test": pool[: task.test], "train": pool[task.test :]}
