"""Tasks of reasoning-gym (arXiv 2505.24760): procedural problems with verifiers; `reasoning:products`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from frugal.core.errors import BadTask, MissingExtra, UnknownName
from frugal.core.recipe import Frozen

from .task import Problem, Split

DRAWN = 4096  # problems, of which the distinct ones are kept
TEST = 128  # most problems that are held out
ASK = "\nGive only the final answer."

# short, easy settings, at which a small model has something to learn; others come with reasoning-gym's own
EASY: dict[str, dict[str, Any]] = {
    "products": {"min_digits": 1, "max_digits": 1},
    "basic_arithmetic": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
}


@dataclass(frozen=True)
class Reasoning:
    """One generator of reasoning-gym; the answer is the last number or the whole last line of the response.

    `options` go to the generator. A quarter of the distinct problems, at most 128, are held out.
    """

    dataset: str
    options: Frozen[str, Any] = field(default_factory=Frozen)
    max_tokens: int = 48

    @property
    def name(self) -> str:
        return f"reasoning:{self.dataset}"

    def problems(self, split: Split) -> Sequence[Problem]:
        return self._pools[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        judge = self._source.score_answer
        return [
            float(judge(answer=_answer(text, p.columns["entry"]["answer"]), entry=p.columns["entry"]))
            for p, text in zip(problems, completions, strict=True)
        ]

    @functools.cached_property
    def _pools(self) -> dict[str, list[Problem]]:
        """Both pools; no question is in both."""
        distinct = {entry["question"]: entry for entry in self._source}
        problems = [Problem(q + ASK, entry["answer"], columns={"entry": entry}) for q, entry in distinct.items()]
        held_out = min(TEST, len(problems) // 4)
        return {"test": problems[:held_out], "train": problems[held_out:]}

    @functools.cached_property
    def _source(self) -> Any:
        try:
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
        except ImportError:
            raise MissingExtra("reasoning", self.name) from None
        if self.dataset not in DATASETS:
            raise UnknownName("task of reasoning-gym", self.dataset, DATASETS)
        options = {**EASY.get(self.dataset, {}), **self.options}
        try:
            return reasoning_gym.create_dataset(self.dataset, seed=1, size=DRAWN, **options)
        except (TypeError, AssertionError, ValueError) as error:
            raise BadTask(f"{self.name} does not take {options}: {error}") from None


def _answer(text: str, reference: str) -> str:
    """The part of a response that is compared: the last number if the reference is one, else the last line."""
    if re.fullmatch(r"-?\d+", reference):
        numbers = re.findall(r"-?\d+", text.replace(",", ""))
        return numbers[-1] if numbers else ""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
