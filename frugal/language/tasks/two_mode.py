"""two-mode: chains as in modchain, to be answered at once or after a trace; short ones do not need the trace.

The prompt is ``7+5*2=``. A response answers at once, ``!7``, or thinks first, ``?7+0=7!7``; only what follows the last
``!`` is scored. Thinking may contain filler, ``?7+0...=7..!7``: the demonstrations think in half of the cases, with
filler in half of these, whatever the length of the chain.

overthink: the same, but the demonstrations think in three quarters of the cases and put more filler into two thirds of
these, up to as many tokens as the thought itself has: the likeliest response is right and twice as long as needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from random import Random

from .modchain import draw_chain, trace
from .task import Problem, Split


@dataclass(frozen=True)
class TwoMode:
    """Chains of 2 to `operands` digits modulo 10, in equal shares. Difficulty: the number of operands."""

    operands: int = 5
    direct: float = 0.5  # share of the demonstrations that answer at once
    filled: float = 0.25  # share of those that think with filler
    filler: int = 4  # most dots after a step
    train: int = 4096  # problems in the pool of each split
    test: int = 256
    seed: int = 0

    name = "two-mode"
    model = "tiny-two-mode"
    alphabet = "0123456789+*=?!."

    @property
    def max_tokens(self) -> int:
        """Length of a trace with the most filler, the answer and its end, in characters."""
        return self.operands * (self.operands - 1) + 3 + self.filler * (self.operands - 1)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no problem is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """1.0 where the text after the last ! is the right digit and nothing else, otherwise 0.0."""
        pairs = zip(problems, completions, strict=True)
        return [float(text.rpartition("!")[1:] == ("!", p.reference)) for p, text in pairs]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """A right response: at once, after a trace with filler, or after a bare trace."""
        mode = random.random()
        if mode < self.direct:
            return f"!{problem.reference}"
        most = self.filler if mode < self.direct + self.filled else 0
        steps = trace(str(problem.prompt).removesuffix("="))
        thought = "=".join(step + "." * random.randint(min(most, 1), most) for step in steps)
        return f"?{thought}!{problem.reference}"


@dataclass(frozen=True)
class Overthink(TwoMode):
    """Chains of 2 to `operands` digits, as in two-mode, after demonstrations that think too long."""

    operands: int = 4
    direct: float = 0.25
    filled: float = 0.5
    filler: int = 5

    name = "overthink"
    model = "tiny-overthink"


@cache
def _pools(task: TwoMode) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"two-mode {task.operands} {task.seed}")
    pools: dict[Split, list[Problem]] = {"test": [], "train": []}
    for operands in range(2, task.operands + 1):
        i, lengths = operands - 2, task.operands - 1
        test, train = (n * (i + 1) // lengths - n * i // lengths for n in (task.test, task.train))
        drawn: dict[str, None] = {}
        while len(drawn) < min(test + train, 10**operands * 2 ** (operands - 1)):
            drawn[draw_chain(operands, random)] = None
        made = [Problem(f"{chain}=", trace(chain)[-1], float(operands)) for chain in drawn]
        pools["test"] += made[:test]
        pools["train"] += islice(cycle(made[test:]), train)  # there are only two hundred chains of two
    return {split: tuple(pool) for split, pool in pools.items()}
