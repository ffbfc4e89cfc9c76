"""pairs: a bandit of a few responses to a prompt, in which everything is known exactly.

The prompt is two digits, ``07=``, a response one letter, so that the policy is known as a table of probabilities: what
a method should come to is a closed form or a small linear program. The policy itself is a small transformer, which has
to learn to tell the prompts apart; rounds of a few pairs teach it one response for all of them.

The hidden reward r of every response is drawn once. Labels follow P = (1 - c) sigmoid(r_a - r_b) + c C_ab with
c = `cyclic` percent, where the responses stand in a circle and C is a sigmoid of the sine of the angle between two of
them: no reward explains that part, and only a mixture is not beaten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadTask
from frugal.language.tasks.task import Problem, Split
from frugal.lazy import torch

from .rm_lab import sigmoid

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Policy

RESPONSES = "abcdefghijklmnop"
SPREAD = 2.0  # standard deviation of the rewards
AROUND = 4.0  # how surely a response beats the one a quarter of the circle before it: sigmoid(4)
NOTHING = -4.0  # the reward of what is no response


@dataclass(frozen=True)
class ResponsePairs:
    """Sixteen responses to each of `prompts` prompts; the data's pairs are drawn evenly, `flips` percent mislabelled.

    The same prompts are trained on and measured: what is held out is the reward, and the test problems' pairs.
    """

    prompts: int = 16
    train: int = 4096  # problems in the pool: a prompt with a pair
    test: int = 128
    cyclic: int = 0  # percent of the preferences that no reward explains
    flips: int = 0  # percent of the data's labels that are turned round
    seed: int = 0

    name = "pairs"
    model = "tiny-pairs"
    alphabet = "0123456789=" + RESPONSES
    max_tokens = 1

    def __post_init__(self) -> None:
        for option, least, most in (("prompts", 1, 100), ("cyclic", 0, 100), ("flips", 0, 49)):
            if not least <= getattr(self, option) <= most:
                raise BadTask(f"pairs({option}={getattr(self, option)}): give {least} to {most}")
        if self.test < self.prompts:
            raise BadTask(
                f"pairs(prompts={self.prompts}, test={self.test}): every prompt is measured; give more of test"
            )

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """The hidden reward; -4 for what is no response."""
        r = _world(self)[0]
        return [
            r[p.reference][RESPONSES.index(text)] if len(text) == 1 and text in RESPONSES else NOTHING
            for p, text in zip(problems, completions, strict=True)
        ]

    def prefer(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float]:
        """P(the first beats the second)."""
        return [self._wins(p.reference, a, b) for p, a, b in zip(problems, first, second, strict=True)]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """Any of the responses."""
        return random.choice(RESPONSES)

    def matrices(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(r [N,V], P [N,V,V]) of N prompts over the responses `texts`, whatever they are; float64."""
        r = [self.score([Problem("", prompt)] * len(texts), texts) for prompt in range(self.prompts)]
        P = [[[self._wins(prompt, a, b) for b in texts] for a in texts] for prompt in range(self.prompts)]
        return torch.tensor(r, dtype=torch.float64), torch.tensor(P, dtype=torch.float64)

    def exact(self, now: Tensor, start: Tensor, net: Policy) -> dict[str, float]:
        """The figures of an evaluation from tables of probabilities. now, start [N,V] float64

        `win_nash` is the win rate against the Nash policy, 0.5 at most; `exploitability` what the best response wins
        beyond a draw. Means over prompts.
        """
        r, P, nash = _figures(self, tuple(net.decode((v,)) for v in range(now.shape[1])))

        def against(other: Tensor) -> float:
            return float(torch.einsum("nv,nvw,nw->n", now, P, other).mean())

        return {
            "win": against(start),
            "win_nash": against(nash),
            "exploitability": float(maths.exploitability(now, P).mean()),
            "reward": float((now * r).sum(1).mean()),
            "kl": float((now * (now.log() - start.log())).sum(1).mean()),
            "length": 1.0,
        }

    def _wins(self, prompt: int, a: str, b: str) -> float:
        r, around = _world(self)
        i, j = (RESPONSES.find(text) if len(text) == 1 else -1 for text in (a, b))
        if i < 0 or j < 0:
            return 0.5 if i == j else float(i >= 0)
        angle = around[prompt][i] - around[prompt][j]
        c = self.cyclic / 100
        return (1 - c) * sigmoid(r[prompt][i] - r[prompt][j]) + c * sigmoid(AROUND * math.sin(angle))


@cache
def _world(task: ResponsePairs) -> tuple[list[list[float]], list[list[float]]]:
    """Rewards and places on the circle of every response to every prompt."""
    random = Random(f"pairs {task.seed}")
    K = len(RESPONSES)
    r = [[random.gauss(0, SPREAD) for _ in range(K)] for _ in range(task.prompts)]
    return r, [[2 * math.pi * place / K for place in random.sample(range(K), K)] for _ in range(task.prompts)]


@cache
def _pools(task: ResponsePairs) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"pairs of data {task.seed}")

    def problem(prompt: int, flips: float) -> Problem:
        a, b = random.sample(RESPONSES, 2)
        won = random.random() < task._wins(prompt, a, b)
        if won == (random.random() < flips):
            a, b = b, a
        return Problem(f"{prompt:02}=", prompt, columns={"chosen": a, "rejected": b})

    return {
        "test": tuple(problem(i % task.prompts, 0.0) for i in range(task.test)),
        "train": tuple(problem(i % task.prompts, task.flips / 100) for i in range(task.train)),
    }


@cache
def _figures(task: ResponsePairs, texts: tuple[str, ...]) -> Any:
    """Rewards, preferences and the Nash policy of every prompt, over the whole vocabulary."""
    r, P = task.matrices(texts)
    return r, P, torch.stack([maths.nash(each) for each in P])
