"""Unanimous groups learn too: each advantage is blended with the prompt's own standing in the batch.

Changes      credit.advantage: A_i = w_q A_local + (1 - w_q) A_global for the rows i of prompt q, where
             A_local is the base's advantage, A_global = (R_q - mean R) / (std R + 1e-6) over the round's prompts,
             R_q the mean return of q's responses, w_q = sigmoid(gamma (H_q - rho)), and
             H_q = -sum_a f_a log2 f_a in bits, f_a the share of q's responses with the final answer a
Source       COPO: Consistency-Aware Policy Optimization, 2025, arXiv 2508.04138; blend, spreads (unbiased), bits,
             gamma and rho of the released code (github.com/hijih/copo-code, settings of its run_copo.sh)
Ours         the advantages are blended and clipped once, where the paper blends two clipped losses: the same
             gradient while the ratio is 1 (one step a round) or the two signs agree. The final answer is the last
             match of `answer` in the response, by default its last number, compared as text; responses without one
             share one answer. `wrong_global=False`: the released run gives responses of reward 0 the global term
             alone (w = 0), which the blend above does not have.
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `gspo`, `cispo`, `rloo`)
Experiment   experiments/language/copo.py
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.language.parts import per_group
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {"gamma": math.inf, "rho": -1.0}


@dataclass(frozen=True)
class ConsistencyBlend:
    """The inner advantage where a group's answers differ, the prompt's standing in the batch where they agree."""

    gamma: float
    rho: float
    answer: str
    wrong_global: bool = False
    inner: Any = None

    def begin(self, run: Any) -> Callable[[Tensor, Rows], Tensor]:
        from frugal.language.rollout import completions

        return lambda r, rows: self.blend(r, rows, [self.final(text) for text in completions(run.net, rows)])

    def final(self, text: str | Sequence[str]) -> str:
        """The last match of `answer` in a response, of its last turn where it has several; "" if there is none."""
        last = text if isinstance(text, str) else text[-1]
        return ["", *(m.group() for m in re.finditer(self.answer, last))][-1]

    def blend(self, r: Tensor, rows: Rows, answers: Sequence[str]) -> Tensor:
        """The equation of the head. r [B,T], one answer a row -> A [B,T]"""
        R, sampled = r.sum(1), rows.sampled
        ids, where = rows.group.unique(return_inverse=True)
        R_q = per_group(maths.group_mean_std(R, rows.group, sampled)[0], rows.group)  # [G]
        A_global = maths.group_relative(R_q, torch.zeros_like(ids), torch.ones_like(R_q) > 0, "group", 1e-6)
        theirs = [(sampled & (rows.group == q)).nonzero()[:, 0].tolist() for q in ids]
        H = torch.tensor([bits([answers[b] for b in bs]) for bs in theirs])
        w = torch.sigmoid(self.gamma * (H - self.rho))[where]
        if self.wrong_global:
            w = torch.where(R == 0, 0.0, w)
        return w[:, None] * self.inner(r, rows) + ((1 - w) * A_global[where])[:, None]


def bits(answers: Sequence[str]) -> float:
    """Entropy of the answers' frequencies, base 2."""
    return sum(n / len(answers) * math.log2(len(answers) / n) for n in Counter(answers).values())


@patch
def copo(gamma: float = 5.0, rho: float = 1.0, answer: str = r"-?\d+(\.\d+)?", wrong_global: bool = False) -> Patch:
    """Blend each group's advantage with its prompt's standing in the batch, the more the more its answers agree."""
    if gamma < 0 or (gamma == math.inf and rho >= 0):
        raise BadRecipe(f"copo(gamma={gamma}, rho={rho}): give gamma >= 0, and a finite one unless rho < 0")
    try:
        re.compile(answer)
    except re.error as error:
        raise BadRecipe(f"copo(answer={answer!r}): not a regular expression ({error})") from None
    return Patch(
        wrap={"credit.advantage": ConsistencyBlend(gamma, rho, answer, wrong_global)},
        leans_on={"compares a group's rewards": "it blends their comparison with one between prompts"},
        lives_on=("all-wrong", "all-right"),
    )
