"""Unsolved prompts are retried once at every level of help; the success with the least help replaces one failure.

Changes      start.extra: once the share `exempt` of the run is over, a group without a score above 0 gets one
             response from q + words + hint_l for each level l of help, q the prompt. If any scores above 0, the one
             of the lowest level takes the place of the group's first response, and G responses remain; the others
             are left out. Ratio and log-probabilities of that row are given q + words + hint_l, so the step stays
             on-policy; hint tokens are never trained.
Source       Scaf-GRPO: Scaffolded Group Relative Policy Optimization for Enhancing LLM Reasoning, Zhang et al. 2025,
             arXiv 2510.19807; replacement of one row together with its prompt (replace_num=1,
             replace_hint_prompt=False) of the released code (github.com/dvlab-research/Scaf-GRPO)
Ours         exempt = 0.15 of the budget, as the paper's text has been reported; the released run takes 50 steps.
             The levels are the problem's column `hints`, texts of growing help: there belong the paper's knowledge,
             planning and solution hints, four cumulative pieces each (the released code leaves planning out).
             Without such a column they are the first 1/4, 2/4, 3/4 and the whole of its `solution`. words = "":
             tiny models know none; the released code writes "\\nSolution Hints: " and the like.
Leans on     nothing; problems must have a column `hints` or `solution`
Experiment   experiments/language/scaf_grpo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from frugal.language.rows import Extra, Rows
    from frugal.language.tasks.task import Problem

NEUTRAL = {"exempt": 1.0}
TASK = "cipher(unknown=7)"
PIECES = 4  # of a solution


@dataclass(frozen=True)
class Scaffold:
    """One response a level of help for every group that failed, of which at most one stays."""

    exempt: float
    words: str

    def begin(self, run: Any) -> LiveScaffold:
        return LiveScaffold(self, run)


class LiveScaffold:
    """Between the two times that it is asked in a round it remembers at which level which prompt is."""

    def __init__(self, chosen: Scaffold, run: Any):
        self.chosen, self.run = chosen, run

    def __call__(self, rows: Rows, k: int) -> Extra:
        from frugal.language.rows import Extra

        if k == 0:
            self.level: dict[tuple[int, tuple[int, ...]], int] = {}  # (group, prompt) -> level
            return Extra() if self.run.progress <= self.chosen.exempt else self.ask(rows)
        return self.replace(rows) if k == 1 and self.level else Extra()

    def ask(self, rows: Rows) -> Extra:
        """A response at every level for each failed group."""
        from frugal.language.hints import by_group, failed, with_hint
        from frugal.language.rows import Ask, Extra

        asks = []
        for group, members in by_group(rows, failed(rows)):
            problem = rows.problems[members[0]]
            for level, hint in enumerate(hints(problem)):
                prompt = with_hint(self.run.net, problem, self.chosen.words, hint, self.run.settings.max_tokens)
                self.level[group, prompt] = level
                asks.append(Ask(problem, prompt, group))
        return Extra(asks)

    def replace(self, rows: Rows) -> Extra:
        """Leaves out all that was asked for, but for the least helped success of a group, which costs it a failure."""
        from frugal.language.hints import by_group
        from frugal.language.rows import Extra

        level = [self.level.get((int(g), prompt), -1) for g, prompt in zip(rows.group, rows.prompts, strict=True)]
        helped = torch.tensor(level) >= 0
        drop, plain = helped.clone(), dict(by_group(rows, rows.sampled & ~helped))
        for group, members in by_group(rows, helped & (rows.score > 0)):
            drop[min(members, key=level.__getitem__)] = False
            drop[plain[group][0]] = True
        return Extra(drop=drop)


def hints(problem: Problem) -> list[str]:
    """The texts of growing help that a problem comes with, or four pieces of its solution, each with those before."""
    from frugal.language.hints import solution

    texts = problem.columns.get("hints")
    if texts is None:
        h = solution(problem)
        texts = [h[: round(len(h) * piece / PIECES)] for piece in range(1, PIECES + 1)]
    return [text for text in dict.fromkeys(texts) if text]


@patch
def scaf_grpo(exempt: float = 0.15, words: str = "") -> Patch:
    """Scaffolded GRPO: after the share `exempt` of the run, failed groups get their least helped success."""
    if not 0 <= exempt <= 1:
        raise BadRecipe(f"scaf-grpo(exempt={exempt}): give a share of the run, from 0 to 1")
    return Patch(add={"start.extra": Scaffold(exempt, words)}, claims=("failed groups",))
