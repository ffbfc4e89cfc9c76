"""rm-lab: the true reward is known, and what is learnt of it from labels holds near the start policy only.

The prompt is three letters, ``cfa=``; a response is up to fifteen letters. Each of the three is worth n (5 - n) / 6 if
it is there n times: 2/3 once, 1 two or three times, nothing five times, and less than nothing beyond. The reward is
the mean over the three. Demonstrations are short, with four wanted letters in the mean, so that in them more wanted
letters are nearly always better: a reward model that learns from them pays for a fifth of a kind too, and a policy
that follows it far enough loses all that it had won.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from random import Random

from frugal.core.errors import BadTask
from frugal.language.tasks.task import Problem, Split

LETTERS = "abcdefghij"
LONGEST = 15
WANTED = 0.4  # share of a demonstration's letters that are wanted ones
SCALE = 4.0  # labels are drawn with P(a beats b) = sigmoid(SCALE (reward of a - reward of b))


@dataclass(frozen=True)
class RMLab:
    """Prompts of three of ten letters; a problem has a pair of demonstrations, `flips` percent of them mislabelled."""

    train: int = 4096  # problems in the pool
    test: int = 128  # of other prompts
    flips: int = 0  # percent of the data's labels that are turned round
    seed: int = 0

    name = "rm-lab"
    model = "tiny-rm-lab"
    alphabet = LETTERS + "="
    max_tokens = LONGEST + 1  # its end, too

    def __post_init__(self) -> None:
        if not 0 <= self.flips < 50:
            raise BadTask(f"rm-lab(flips={self.flips}): give a share in percent from 0 to 49")

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no prompt is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """The true reward, at most 1."""
        return [reward(str(p.prompt), text) for p, text in zip(problems, completions, strict=True)]

    def prefer(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float]:
        """sigmoid(4 (r_first - r_second))."""
        return [
            sigmoid(SCALE * (a - b))
            for a, b in zip(self.score(problems, first), self.score(problems, second), strict=True)
        ]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """Three to ten letters, two in five of them wanted ones."""
        return demonstration(str(problem.prompt), random)


def reward(prompt: str, text: str) -> float:
    """Mean over the prompt's letters of n (5 - n) / 6, n times that each is in the text."""
    counts = [text.count(letter) for letter in prompt.removesuffix("=")]
    return sum(n * (5 - n) for n in counts) / (6 * len(counts))


def demonstration(prompt: str, random: Random) -> str:
    return "".join(
        random.choice(prompt[:-1]) if random.random() < WANTED else random.choice(LETTERS)
        for _ in range(random.randint(3, 10))
    )


def prompts(random: Random, held_out: int, task: str) -> tuple[list[str], list[str]]:
    """Every three letters in every order, shuffled: the first `held_out` of them, and the others."""
    every = ["".join(three) + "=" for three in permutations(LETTERS, 3)]
    random.shuffle(every)
    if not 0 < held_out < len(every):
        raise BadTask(f"{task}(test={held_out}): there are {len(every)} prompts; give 1 to {len(every) - 1}")
    return every[:held_out], every[held_out:]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@cache
def _pools(task: RMLab) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"rm-lab {task.seed}")
    test, train = prompts(random, task.test, task.name)

    def problem(prompt: str, flips: float) -> Problem:
        while True:
            a, b = (demonstration(prompt, random) for _ in range(2))
            if a != b:
                break
        won = random.random() < sigmoid(SCALE * (reward(prompt, a) - reward(prompt, b)))
        if won == (random.random() < flips):
            a, b = b, a
        return Problem(prompt, columns={"chosen": a, "rejected": b})

    return {
        "test": tuple(problem(prompt, 0.0) for prompt in test),
        "train": tuple(problem(random.choice(train), task.flips / 100) for _ in range(task.train)),
    }
