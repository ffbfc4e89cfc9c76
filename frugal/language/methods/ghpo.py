"""Retry what nobody solved with the beginning of its solution in the prompt, longer only where shorter did not help.

Changes      start.extra: while no response of a group scores above 0, its G responses are left out and G new ones are
             sampled from q + words + h[:round(omega |h|)], q the prompt, h the solution's text, omega = 0.25, then
             0.5, then 0.75. The last G are the group: as in the base, with ratio and log-probabilities given the
             extended prompt. Hint tokens are never trained.
Source       GHPO: Adaptive Guidance for Stable and Efficient LLM Reinforcement Learning, Liu et al. 2025,
             arXiv 2507.10628: difficulty detection and prompt refinement with multi-stage guidance; stages, cut by
             characters, and that a success is any accuracy above 0, of the released code (github.com/hkgc-1/GHPO)
Ours         words = "": the released code writes "\\n The following text is the beginning part of the answer, which
             you can refer to for solving the problem:\\n" (give it with words=... to a model that reads); tiny
             models know no words, and continue the hint. Each group keeps the prompt that it was sampled from; the
             released code, once it has gone on to the next stage for some groups, trains those that an earlier
             stage helped as if they had had no hint. Without the paper's cold start (a fixed omega = 0.5 at first),
             which the released code does not have either.
Leans on     nothing; problems must have a column `solution`
Experiment   experiments/language/ghpo.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from frugal.language.rows import Extra, Rows

NEUTRAL = {"stages": ()}
TASK = "cipher(unknown=7)"


@dataclass(frozen=True)
class PartialSolution:
    """Asks again for the groups that failed, with the share stages[k] of the solution behind the prompt."""

    stages: tuple[float, ...]
    words: str

    def begin(self, run: Any) -> Callable[[Rows, int], Extra]:
        return lambda rows, k: self.retry(rows, k, run)

    def retry(self, rows: Rows, k: int, run: Any) -> Extra:
        """What is wanted after k retries."""
        from frugal.language.hints import by_group, failed, solution, with_hint
        from frugal.language.rows import Ask, Extra

        if k >= len(self.stages):
            return Extra()
        lost, asks = failed(rows), []
        for group, members in by_group(rows, lost):
            problem = rows.problems[members[0]]
            h = solution(problem)
            hint = h[: round(self.stages[k] * len(h))]
            prompt = with_hint(run.net, problem, self.words, hint, run.settings.max_tokens)
            asks.append(Ask(problem, prompt, group, len(members)))
        return Extra(asks, drop=lost) if asks else Extra()


@patch
def ghpo(stages: tuple[float, ...] = (0.25, 0.5, 0.75), words: str = "") -> Patch:
    """Guided hybrid policy optimisation: failed groups are sampled again with growing `stages` of the solution."""
    if list(stages) != sorted(set(stages)) or not all(0 < omega <= 1 for omega in stages):
        raise BadRecipe(f"ghpo(stages={stages}): give growing shares of the solution, each above 0 and at most 1")
    return Patch(add={"start.extra": PartialSolution(stages, words)}, claims=("failed groups",))
