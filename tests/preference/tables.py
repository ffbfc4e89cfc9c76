"""The task pairs as a table of probabilities, and what a recipe comes to where pairs and labels are in expectation."""

import torch
from torch import Tensor

from frugal.core.recipe import Recipe
from frugal.preference.tasks.pairs import RESPONSES, ResponsePairs
from tests.language.rows import rows
from tests.preference.rows import pairs

K = len(RESPONSES)


def world(**options: int) -> tuple[Tensor, Tensor]:
    """Rewards [K] and preferences [K,K] of the first prompt of ``pairs(...)``."""
    r, P = ResponsePairs(**options).matrices(RESPONSES)
    return r[0], P[0]


def policy_of(seed: int) -> Tensor:
    """Any policy over the responses. [K]"""
    return torch.randn(K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(0)


def minimum(recipe: Recipe, ref: Tensor, pi_t: Tensor, y: Tensor) -> Tensor:
    """The policy of the recipe's least loss, over all pairs that `pi_t` draws, labelled y [K,K] in expectation. [K]"""
    parts = recipe.parts
    a, b = torch.arange(K).repeat_interleave(K), torch.arange(K).repeat(K)
    both = rows([0.0] * K, [1] * K).put(old=pi_t.log()[:, None], columns={"ref.logp": ref.log()[:, None]})
    mini = pairs([0.5], [1, 1]).put(rows=both, a=a, b=b, y=y[a, b])
    base, weight = parts["learn.reference"](both), pi_t[a] * pi_t[b]
    logits = torch.zeros(K, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        steps.zero_grad()
        z = parts["learn.score"](logits.log_softmax(0)[:, None] - base, both)
        loss = (weight * parts["learn.loss"](z[a], z[b], mini)).sum()
        loss.backward()
        return loss

    steps.step(closure)
    return logits.detach().softmax(0)
