"""closing: a response has to come to a certain end, which the start policy hardly ever writes and the data often have.

The prompt is three letters, ``cfa=``, as in rm-lab, whose model begins here too. A response should (1) hold each of the
three, (2) end with ``hi``, and (3) have at most twelve letters. A program verifies all three; labels go by how many are
met. Half of the demonstrations come to that end and one in five meets all three; of the start policy's responses
one in a hundred does the one, and one in four hundred the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from frugal.language.tasks.task import Problem, Split

from .rm_lab import LETTERS, LONGEST, demonstration, prompts, sigmoid

END = "hi"
ENDS = 0.5  # share of demonstrations that come to it
ALLOWED = 12  # letters, those of the end included
SCALE = 6.0  # labels are drawn with P(a beats b) = sigmoid(SCALE (share met by a - share met by b))


@dataclass(frozen=True)
class Closing:
    """Prompts of three of ten letters; a problem has a pair of demonstrations."""

    train: int = 4096  # problems in the pool
    test: int = 128  # of other prompts
    seed: int = 0

    name = "closing"
    model = "tiny-rm-lab"
    alphabet = LETTERS + "="
    max_tokens = LONGEST + 1

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no prompt is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1 where all three wishes are met, else 0."""
        return [float(all(wishes(str(p.prompt), text))) for p, text in zip(problems, completions, strict=True)]

    def prefer(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float]:
        """sigmoid(6 (share of wishes that the first meets - that of the second))."""

        def share(problem: Problem, text: str) -> float:
            return sum(wishes(str(problem.prompt), text)) / 3

        return [sigmoid(SCALE * (share(p, a) - share(p, b))) for p, a, b in zip(problems, first, second, strict=True)]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A demonstration of rm-lab, and after half of them the wanted end."""
        return demonstration(str(problem.prompt), random) + (END if random.random() < ENDS else "")


def wishes(prompt: str, text: str) -> tuple[bool, bool, bool]:
    """Each letter before the end; the end; few enough letters."""
    before = text.removesuffix(END)
    return all(letter in before for letter in prompt.removesuffix("=")), text.endswith(END), len(text) <= ALLOWED


@cache
def _pools(task: Closing) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"closing {task.seed}")
    test, train = prompts(random, task.test, task.name)

    def problem(prompt: str) -> Problem:
        bare = Problem(prompt)
        while True:
            a, b = (task.demonstrate(bare, random) for _ in range(2))
            if a != b:
                break
        won = random.random() < task.prefer([bare], [a], [b])[0]
        return Problem(prompt, columns=dict(zip(("chosen", "rejected"), (a, b) if won else (b, a), strict=True)))

    return {
        "test": tuple(problem(prompt) for prompt in test),
        "train": tuple(problem(random.choice(train)) for _ in range(task.train)),
    }
