"""A reward model errs least at its extremes: of several responses train on the best and the worst, or one at random.

Changes      update.select: of the `group` responses to a prompt, by their scores
             best-random  the best, and one of the others at random
             best-worst   the best and the worst
             best         the best alone
             all          every one, as the base
Source       Policy Filtration in RLHF to Fine-Tune LLM for Code Generation, Shen and Zhang 2024, arXiv 2409.06957: the
             strategies BR, BW and BoN; that what is left out trains neither policy nor critic, of the released code
             (github.com/swtheing/PF-PPO-RLHF)
Ours         group = 5. Advantages are normalised over all responses before the choice, by the released code over the
             chosen ones after it. Of equal scores the first counts as the best, the last as the worst. The paper
             chooses the strategy by how well chosen scores agree with true ones (R^2): ours is an argument
Leans on     nothing
Experiment   experiments/preference/pf_ppo.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, UnknownName
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

BASE = "rlhf"
NEUTRAL = {"keep": "all", "group": 1}
STRATEGIES = ("all", "best", "best-random", "best-worst")


@dataclass(frozen=True)
class ByRank:
    """Every position of the responses that the strategy keeps. [B,T] bool"""

    keep: str

    def begin(self, run: Any) -> Callable[[Tensor, Rows], Tensor]:
        return lambda A, rows: self.select(rows, run.rng("pf-ppo"))

    def select(self, rows: Rows, rng: torch.Generator) -> Tensor:
        from frugal.language.hints import by_group

        kept = torch.zeros(len(rows), dtype=torch.bool)
        for _, members in by_group(rows, rows.use.any(1)):
            best, *others = sorted(members, key=lambda b: -float(rows.score[b]))
            kept[[best, *self.beside(others, rng)]] = True
        return rows.use & kept[:, None]

    def beside(self, others: list[int], rng: torch.Generator) -> list[int]:
        """Which of the others stay, given from the better to the worse."""
        if self.keep == "best-random" and others:
            return [others[int(torch.randint(len(others), (1,), generator=rng))]]
        return {"all": others, "best-worst": others[-1:]}.get(self.keep, [])


@patch
def pf_ppo(keep: str = "best-random", group: int = 5) -> Patch:
    """Policy filtration: of `group` responses to a prompt only those that the strategy `keep` names are trained on."""
    if keep not in STRATEGIES:
        raise UnknownName("strategy", keep, STRATEGIES)
    if keep != "all" and group < 2:
        raise BadRecipe(f"pf-ppo(group={group}): give 2 or more, of which some are left out")
    return Patch(add={"update.select": ByRank(keep)}, set={"group": group}, domain="preference")
