"""Predict with a second-order model of the output layer what each token's update would do, and mask the worst few.

Changes      update.mask: token t stays when m_F <= policy and |m_H| <= objective, where over the top_k tokens, with
             p their probabilities, v = e_a - p, hidden state h, advantage A, and the change of logits u = D h,
             m_F = (v.u)^2 / 2                                           the policy's shift
             m_H = A v.u + A ((v.u)^2 - u^T (diag(p) - p p^T) u) / 2     the objective's shift; A v.u = <A v h^T, D>
             D is the step that Adam would make if the whole gradient were this token's, g = A v h^T, added to a
             shadow state (m, q) of the output layer: D = step m' / (sqrt(q') + 1e-8) with
             m' = (0.9 m + 0.1 g) / (1 - 0.9^n), q' = (0.999 q + 0.001 g^2) / (1 - 0.999^n), n counting steps.
             After each step (m, q) takes in the kept tokens' g: row by row, averaged over the tokens that have the
             row in their top_k; rows that no token has stay as they are.
             model="sgd": D = step g, no state. `step` is the optimiser's learning rate.
Source       Stabilizing Policy Gradients for Sample-Efficient Reinforcement Learning in LLM Reasoning (CAPO),
             2025, arXiv 2510.00819; step model, top_k and thresholds of the released code's GRPO runs. Its Dr. GRPO
             runs: policy 1e-3, objective 5e-4; its REINFORCE runs: 1e-5 and 0.1
Ours         a sampled token below the top_k takes the last place among them. The first step is Adam's too, where
             the released code, which has no moments then, takes SGD's (at the rate 0 of its warm-up).
             v.u is to first order the change of the token's own log-probability, and a step of Adam makes it about
             step |h|_1: with the paper's rates (1e-6) 0.004, with those of tiny models (4e-4) 0.04, so that its
             thresholds mask every token that decides anything. m_F grows with the square of that, m_H with it: there
             take policy=1e-2, objective=1e-1, as the experiment does (docs/log.md).
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
CHUNK = 2**18  # floats of the candidate steps that exist at once: what a processor's cache holds


@dataclass(frozen=True)
class LastLayer:
    """Probabilities among the `top_k` likeliest tokens and the sampled one, their ids, the hidden state. [n,2k+D]"""

    top_k: int

    def __call__(self, logits: Tensor, token: Tensor, hidden: Tensor) -> Tensor:
        logits = logits.detach()
        ids = logits.topk(min(self.top_k, logits.shape[1])).indices
        ids[:, -1] = torch.where((ids == token[:, None]).any(1), ids[:, -1], token)
        return torch.cat([logits.gather(1, ids).softmax(1), ids.float(), hidden.detach().float()], dim=1)


@dataclass(frozen=True)
class CurvatureMask:
    """Keep the tokens whose predicted shifts of policy and objective are small."""

    policy: float
    objective: float
    top_k: int
    model: str

    @property
    def needs(self) -> dict[str, Any]:
        return {"now.last_layer": LastLayer(self.top_k)}

    def begin(self, run: Any) -> LiveMask:
        return LiveMask(self, run)


class LiveMask:
    """The mask at work, with Adam's moments of the output layer, m and q [V,D]."""

    def __init__(self, part: CurvatureMask, run: Any):
        self.part, self.run, self.steps = part, run, 0
        self.m, self.q = (torch.zeros(run.net.head.weight.shape) for _ in range(2))

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        use, part, (V, D) = mini.use, self.part, self.m.shape
        k, A = min(part.top_k, V), mini.A[use].detach()
        p, ids, h = now["last_layer"][use].split([k, k, D], dim=1)
        ids, h = ids.long(), h / self.run.settings.temperature
        v = (ids == mini.tokens[use][:, None]).float() - p
        w = A[:, None] * v  # so that g = w h^T
        u = self.change(w, ids, h) if part.model == "adam" else w * h.square().sum(1, keepdim=True)
        m_F, m_H = shifts(A, p, v, self.run.settings.lr * u)
        keep = (m_F <= part.policy) & (m_H.abs() <= part.objective)
        if part.model == "adam":
            self.take_in(w[keep], ids[keep], h[keep])
        return use.masked_scatter(use, keep)

    def change(self, w: Tensor, ids: Tensor, h: Tensor) -> Tensor:
        """u = D h over the step, for each token's own candidate D. w, ids [n,k], h [n,D] -> [n,k]"""
        n, size = self.steps + 1, max(1, CHUNK // (ids.shape[1] * h.shape[1]))
        m, q = 0.9 / (1 - 0.9**n) * self.m, 0.999 / (1 - 0.999**n) * self.q
        u = torch.empty_like(w)
        for c in torch.arange(len(w)).split(size):  # every float of it must come from the cache
            g, rows = w[c, :, None] * h[c, None], ids[c].flatten()
            root = q.index_select(0, rows).view_as(g).addcmul_(g, g, value=0.001 / (1 - 0.999**n)).sqrt_().add_(1e-8)
            D = m.index_select(0, rows).view_as(g).add_(g, alpha=0.1 / (1 - 0.9**n)).div_(root)  # [c,k,D]
            u[c] = (D @ h[c, :, None])[..., 0]
        return u

    def take_in(self, w: Tensor, ids: Tensor, h: Tensor) -> None:
        """One step of the moments with the tokens' w h^T, averaged row by row. w, ids [n,k], h [n,D]"""
        self.steps += 1
        place = torch.stack([ids.flatten(), torch.arange(len(w)).repeat_interleave(ids.shape[1])])
        shape = len(self.m), len(w)
        total = torch.sparse_coo_tensor(place, w.flatten(), shape, check_invariants=False) @ h  # [V,D]
        count = ids.flatten().bincount(minlength=len(self.m))
        rows = count > 0
        g = total[rows] / count[rows, None]
        self.m[rows], self.q[rows] = 0.9 * self.m[rows] + 0.1 * g, 0.999 * self.q[rows] + 0.001 * g * g

    def state_dict(self) -> dict[str, Any]:
        return {"m": self.m, "q": self.q, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.m, self.q, self.steps = state["m"].clone(), state["q"].clone(), state["steps"]


def shifts(A: Tensor, p: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """m_F and m_H (see the head). A [n], p, v, u [n,k] -> [n], [n]"""
    along = (v * u).sum(1)
    spread = (p * u * u).sum(1) - (p * u).sum(1).square()
    return along.square() / 2, A * along + A * (along.square() - spread) / 2


@patch
def capo(policy: float = 1e-4, objective: float = 1e-2, top_k: int = 50, model: str = "adam") -> Patch:
    """Mask tokens whose predicted shift of the policy is above `policy` or of the objective above `objective`."""
    if policy < 0 or objective < 0 or top_k < 2 or model not in ("adam", "sgd"):
        raise BadRecipe(
            f"capo(policy={policy}, objective={objective}, top_k={top_k}, model={model!r}): "
            "give thresholds >= 0, top_k >= 2 and model adam or sgd"
        )
    return Patch(add={"update.mask": CurvatureMask(policy, objective, top_k, model)})
