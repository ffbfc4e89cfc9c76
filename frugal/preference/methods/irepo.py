"""Several votes on each pair say how much better one response is, and the policy's own reward is fitted to that.

Changes      credit.label: `votes` labels of every pair, y the share that a won
             learn.loss: (beta (z_a - z_b) - logit p)^2, p = (votes y + 1/2) / (votes + 1), the share kept off 0 and 1
             learn.reference: log pi_t, pi_t the policy that drew this round's responses
Source       iREPO: implicit Reward Pairwise Difference based Empirical Preference Optimization, Le et al. 2024,
             arXiv 2405.15230: regression of the implicit reward's difference on the logit of the empirical preference,
             on responses that the policy generates itself
Ours         an iteration is a round: `online-dpo(prompts=..., epochs=...)` says how long it is. Five votes, beta, and
             half a vote added to each side: the paper's numbers could not be confirmed. Every pair is learnt from,
             where the paper takes the best and the worst of several responses by a Zermelo ranking; of two responses
             that is the share of votes itself
Leans on     nothing
Experiment   experiments/preference/irepo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows
    from frugal.preference.oracles import Asking
    from frugal.preference.pairs import Pairs


@dataclass(frozen=True)
class Votes:
    """Every two responses of a prompt, compared `votes` times; no pair without all of its votes."""

    votes: int

    def __call__(self, rows: Rows, ask: Asking) -> Pairs:
        from frugal.preference.parts import EachPair

        def all_votes(rows: Rows, a: Tensor, b: Tensor) -> Tensor:
            n = max(ask.run.left() // self.votes, 1)  # pairs that can be paid for
            said = torch.stack([ask(rows, a[:n], b[:n]) for _ in range(self.votes)]).mean(0)
            return torch.cat([said, torch.full((len(a) - len(said),), float("nan"))])

        return EachPair()(rows, all_votes)


@dataclass(frozen=True)
class Regression:
    """(beta (z_a - z_b) - logit p)^2, p the share of votes y with half a vote added to each side. [n]"""

    beta: float
    votes: int

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        p = (self.votes * mini.y + 0.5) / (self.votes + 1)
        return (self.beta * (z_a - z_b) - p.logit()).square()


@dataclass(frozen=True)
class ThisPolicy:
    """log pi_t of the policy that drew this round's responses."""

    needs = {"old.logp": "logp"}

    def __call__(self, rows: Rows) -> Tensor:
        return rows.old


@patch
def irepo(beta: float = 0.1, votes: int = 5) -> Patch:
    """Regress the implicit reward's difference on the logit of `votes` labels."""
    if beta <= 0 or votes < 1:
        raise BadRecipe(f"irepo(beta={beta}, votes={votes}): give beta above 0 and at least one vote")
    return Patch(
        fill={
            "credit.label": Votes(votes),
            "learn.loss": Regression(beta, votes),
            "learn.reference": ThisPolicy(),
        },
        domain="preference",
    )
