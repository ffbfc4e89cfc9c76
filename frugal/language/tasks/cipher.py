"""cipher: letters stand for digits; half of the letters are known, of the others the right digit is the rarer one.

The prompt is ``kambqtce=``. A response writes a digit for every letter and then, after ``=``, the answer: all of them
once more, ``63116670=63116670``. Only what follows the last ``=`` is scored, and only as a whole. Demonstrations
always know the first half of the alphabet; for each letter of the second half they write the right digit in 35% of the
cases and otherwise one wrong digit, always the same. So problems are solved with probability 0.35 to the power of
their unknown letters, each of which has to be learned by itself: many lie beyond reach, and the beginning of a
solution brings them within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from frugal.core.errors import BadTask

from .task import Problem, Split

LETTERS = 8
KNOWN, UNKNOWN = "abcdefghij", "klmnopqrst"
SHARE = 0.35  # of the demonstrations' digits for an unknown letter that are right
# right and wrong digit of every letter; a known one's wrong digit is never written
CODE: Mapping[str, tuple[str, str]] = {
    letter: tuple(Random(f"cipher {letter}").sample("0123456789", 2))  # type: ignore[misc]
    for letter in KNOWN + UNKNOWN
}


@dataclass(frozen=True)
class Cipher:
    """Words of eight letters, of which `unknown` or more are unknown, in equal shares. Difficulty: how many are."""

    unknown: int = 1
    train: int = 4096  # problems in the pool of each split
    test: int = 256
    seed: int = 0

    name = "cipher"
    model = "tiny-cipher"
    alphabet = KNOWN + UNKNOWN + "0123456789="

    def __post_init__(self) -> None:
        if not 0 < self.unknown <= LETTERS:
            raise BadTask(f"cipher(unknown={self.unknown}): give 1 to {LETTERS}")

    @property
    def max_tokens(self) -> int:
        """Length of the digits, the answer and its end, in characters."""
        return 2 * LETTERS + 2

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no problem is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1.0 where the text after the last = is the right digits and nothing else, otherwise 0.0."""
        pairs = zip(problems, completions, strict=True)
        return [float(text.rpartition("=")[1:] == ("=", p.reference)) for p, text in pairs]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """Known letters right, each unknown one right with probability 0.35."""
        word = str(problem.prompt).removesuffix("=")
        digits = "".join(CODE[c][c in UNKNOWN and random.random() >= SHARE] for c in word)
        return f"{digits}={digits}"


@cache
def _pools(task: Cipher) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"cipher {task.seed}")
    pools: dict[Split, list[Problem]] = {"test": [], "train": []}
    kinds = LETTERS - task.unknown + 1
    for i, unknown in enumerate(range(task.unknown, LETTERS + 1)):
        test, train = (n * (i + 1) // kinds - n * i // kinds for n in (task.test, task.train))
        drawn: dict[str, Problem] = {}
        while len(drawn) < test + train:
            letters = random.choices(UNKNOWN, k=unknown) + random.choices(KNOWN, k=LETTERS - unknown)
            random.shuffle(letters)
            digits = "".join(CODE[c][0] for c in letters)
            drawn["".join(letters)] = Problem("".join(letters) + "=", digits, float(unknown), {"solution": digits})
        pools["test"] += list(drawn.values())[:test]
        pools["train"] += list(drawn.values())[test:]
    return {split: tuple(pool) for split, pool in pools.items()}
