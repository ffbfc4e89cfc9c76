"""A tiny model is rewarded for responses like stored right ones, and unlike stored wrong ones, of the nearest question.

Changes      credit.rewards: exploit (1 - d') + explore n', for response c of question q, one response after the other:
             c goes into the memory of right or of wrong responses under q, both as embeddings; then
             d = |emb(c) - mean of what the memory of right ones holds under the question nearest to q|,
             n = 1 - max cosine(emb(c), what the memory of wrong ones holds under the question nearest to q),
             d', n' = (x - min) / (max - min) over the last 100 values of each, x itself while they are all equal.
             A term is 0 while its memory is empty, the second one while it holds fewer than `after` questions.
Source       Reasoning Under 1 Billion: Memory-Augmented Reinforcement Learning for Large Language Models, Le et al.
             2025, arXiv 2504.02273; order, sizes and plain sum of the released code (github.com/thaihungle/Memory-R)
             with k = 1. This is the paper's Memory-R+; `explore=0` is its Memory-R, which kept 1,000 responses a
             question, ten times as many as here.
Ours         emb is the unit vector of hashed counts of 1 to 3 tokens in a row, in 256 dimensions, of the response's
             own tokens, where the paper embeds the reasoning alone with a sentence encoder (all-MiniLM-L6-v2).
             after = 50 for runs over hundreds of questions; the paper has 500 of 7,473. The oldest question goes
             first, as meant there. The format rewards of its runs are left out.
Leans on     nothing
Experiment   experiments/language/memory_r.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {"exploit": 0.0, "explore": 0.0}
D = 256  # dimensions of an embedding
QUESTIONS, RESPONSES = 10_000, 100  # most of a memory, most of each question
WINDOW = 100  # values between whose extremes a reward is scaled


@dataclass(frozen=True)
class EpisodicRewards:
    """Rewards from a memory of right responses and one of wrong ones."""

    exploit: float
    explore: float
    after: int

    def begin(self, run: Any) -> LiveRewards:
        return LiveRewards(self)


class LiveRewards:
    """The two memories at work."""

    def __init__(self, part: EpisodicRewards):
        self.part, self.right, self.wrong = part, Memory(), Memory()

    def __call__(self, rows: Rows) -> Tensor:
        """[B,T], at the end of every response that has tokens of its own."""
        questions = {prompt: embedding(prompt) for prompt in set(rows.prompts)}
        r = torch.zeros(len(rows))
        for b in rows.own.any(1).nonzero()[:, 0].tolist():
            q, c = questions[rows.prompts[b]], embedding(rows.tokens[b][rows.own[b]].tolist())
            (self.right if rows.score[b] >= 1.0 - 1e-6 else self.wrong).insert(q, c)
            if self.right.stored:
                r[b] += self.part.exploit * (1 - self.right.scaled(float((c - self.right.near(q).mean(0)).norm())))
            if len(self.wrong.stored) >= self.part.after:
                r[b] += self.part.explore * self.wrong.scaled(1 - float((self.wrong.near(q) @ c).max()))
        return rows.at_end(r)

    def state_dict(self) -> dict[str, Any]:
        return {f"{n}/{k}": v for n in ("right", "wrong") for k, v in getattr(self, n).state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for n in ("right", "wrong"):
            getattr(self, n).load_state_dict({k.removeprefix(f"{n}/"): v for k, v in state.items()})


class Memory:
    """Embeddings of questions [K,D], of the responses stored under each [n,D], and the last values to scale by."""

    def __init__(self) -> None:
        self.questions, self.window = torch.zeros(0, D), list[float]()
        self.stored: list[Tensor] = []

    def insert(self, q: Tensor, c: Tensor) -> None:
        """Store a response under its question; the oldest of a full list goes. q, c [D]"""
        same = (self.questions == q).all(1).nonzero()[:, 0].tolist()
        if same:
            self.stored[same[0]] = torch.cat([self.stored[same[0]], c[None]])[-RESPONSES:]
        else:
            self.questions = torch.cat([self.questions, q[None]])[-QUESTIONS:]
            self.stored = [*self.stored, c[None]][-QUESTIONS:]

    def near(self, q: Tensor) -> Tensor:
        """What is stored under the nearest question. [D] -> [n,D]"""
        return self.stored[int((self.questions - q).norm(dim=1).argmin())]

    def scaled(self, x: float) -> float:
        """x between the extremes of the last values, itself included; x where they are all equal."""
        x = round(x, 6)  # so that a spread is never one of rounding
        self.window = [*self.window, x][-WINDOW:]
        low, high = min(self.window), max(self.window)
        return (x - low) / (high - low) if high > low else x

    def state_dict(self) -> dict[str, Any]:
        stored, sizes = torch.cat([torch.zeros(0, D), *self.stored]), [len(c) for c in self.stored]
        return {"questions": self.questions, "stored": stored, "sizes": sizes, "window": self.window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.questions, self.window = state["questions"].clone(), list(state["window"])
        self.stored = list(state["stored"].clone().split(state["sizes"]))


def embedding(tokens: Sequence[int]) -> Tensor:
    """Counts of all 1 to 3 tokens in a row, hashed into D bins, as a unit vector. [D]"""
    ids, counts = torch.tensor(tokens), torch.zeros(D)
    for n in range(1, min(3, len(ids)) + 1):
        key = (ids.unfold(0, n, 1) + 1) @ torch.tensor([1, 1_000_003, 998_244_353][:n])
        counts += (key * 0x9E3779B1 >> 16).remainder(D).bincount(minlength=D)  # Knuth's multiplicative hashing
    return counts / counts.norm()


@patch
def memory_r(exploit: float = 1.0, explore: float = 1.0, after: int = 50) -> Patch:
    """Rewards of weight `exploit` for resembling stored successes, of weight `explore` for unlike stored failures."""
    if exploit < 0 or explore < 0 or after < 1:
        raise BadRecipe(
            f"memory-r(exploit={exploit}, explore={explore}, after={after}): give weights >= 0 and after >= 1"
        )
    return Patch(add={"credit.rewards": EpisodicRewards(exploit, explore, after)}, lives_on=("all-wrong",))
