"""Predict with a second-order model of the output layer what each token's update would do, and mask the worst few.

Changes      update.mask: token t stays when -objective <= m_H <= objective and m_F <= policy, with, for
             v = e_a - p over the top-k tokens, hidden state h, advantage A, g = A v h^T, candidate step D, u = D h:
             m_F = (v . u)^2 / 2                                                             the policy's shift
             m_H = <g, D> + A ((v . u)^2 - u^T (diag(p) - p p^T) u) / 2                   the objective's shift
Source       Stabilizing Policy Gradients for Sample-Efficient Reinforcement Learning in LLM Reasoning (CAPO),
             2025, arXiv 2510.00819; thresholds of the released code for GRPO
Ours         the step model is SGD's, D = lr A v h^T: the released code's default for GRPO variants other than
             GRPO is a shadow Adam state of the output layer, which the paper finds unnecessary for GRPO.
             `step` stands for the learning rate in D; scaled with the thresholds it drops out of m_F's test.
Leans on     nothing
Experiment   experiments/language/capo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.language.rows import Rows

NEUTRAL = {"policy": float("inf"), "objective": float("inf")}


@dataclass(frozen=True)
class OutputCurvature:
    """The inner products that the test needs, per token: [v.v, v^T F v, h.h] with F = diag(p) - p p^T. [n,3]

    With D = lr A v h^T all of CAPO's quantities are polynomials in these three, so no matrix is formed.
    """

    top_k: int

    def __call__(self, logits: Tensor, token: Tensor, hidden: Tensor) -> Tensor:
        logits, hidden = logits.detach(), hidden.detach().float()
        k = min(self.top_k, logits.shape[-1])
        kept, index = logits.topk(k, dim=-1)
        p = kept.softmax(-1)
        v = (index == token[:, None]).float() - p
        v = torch.cat([v, 1.0 - (index == token[:, None]).any(-1, keepdim=True).float()], dim=-1)  # a token below k
        p = torch.cat([p, torch.zeros_like(p[:, :1])], dim=-1)
        fisher = (p * v * v).sum(-1) - (p * v).sum(-1) ** 2
        return torch.stack([(v * v).sum(-1), fisher, (hidden * hidden).sum(-1)], dim=-1)


@dataclass(frozen=True)
class CurvatureMask:
    """Keep the tokens whose predicted shifts of objective and policy are small."""

    policy: float
    objective: float
    step: float
    top_k: int

    @property
    def needs(self) -> dict[str, Any]:
        return {"now.output_curvature": OutputCurvature(self.top_k)}

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        m_F, m_H = shifts(mini.A, *now["output_curvature"].unbind(-1), self.step)
        return (m_F <= self.policy) & (m_H.abs() <= self.objective)


def shifts(A: Tensor, vv: Tensor, vFv: Tensor, hh: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    """m_F and m_H for the step D = lr A v h^T. All [b,T].

    u = D h = lr A hh v, so v.u = lr A hh vv, <g, D> = lr A^2 vv hh and u^T F u = (lr A hh)^2 vFv.
    """
    scale = lr * A * hh
    m_F = (scale * vv).square() / 2
    m_H = lr * A.square() * vv * hh + A * ((scale * vv).square() - scale.square() * vFv) / 2
    return m_F, m_H


@patch
def capo(policy: float = 1e-4, objective: float = 1e-2, step: float = 1e-5, top_k: int = 64) -> Patch:
    """Mask tokens whose predicted shift of the policy is above `policy` or of the objective above `objective`."""
    if policy < 0 or objective < 0 or step <= 0 or top_k < 1:
        raise BadRecipe(
            f"capo(policy={policy}, objective={objective}, step={step}, top_k={top_k}): "
            "give thresholds >= 0, step > 0, top_k >= 1"
        )
    return Patch(add={"update.mask": CurvatureMask(policy, objective, step, top_k)})
