"""One normalised step a round along a momentum that is corrected for having been measured at earlier weights.

Changes      in step t, u = theta_t - theta_{t-1}, L the recipe's loss of a trajectory, summed over its steps:
             variant "n-harpg": half of the trajectories are drawn at theta_t, half at theta_q = theta_{t-1} + q u, with
             q ~ U[0,1]; d_t = (1 - eta_t) (d_{t-1} + B u) + eta_t grad L(theta_t), eta_t = 2 / (t + 2), where
             B u = mean over the second half of (grad log p(tau) . u) grad L(theta_q) + Hessian L(theta_q) u
             variant "n-pg-igt": all are drawn at theta_e = theta_t + (1 - eta_t) / eta_t u, and
             d_t = (1 - eta_t) d_{t-1} + eta_t grad L(theta_e), eta_t = (2 / (t + 2))^(4/5)
             both: theta_{t+1} = theta_t - lr 2 / (t + 2) d_t / |d_t|
             act.behaviour: who collects; update.step: the rest; learn.surrogate: A log pi, without ratios
Source       Stochastic Policy Gradient Methods: Improved Sample Complexity for Fisher-non-degenerate Policies,
             Fatkhullin et al. 2023, arXiv 2302.01734: algorithms 1 and 2; the constants of eta and of the steps from
             the released code
Ours         two trajectories a round for either variant; the unnormalised HARPG is left out. The released code
             extrapolates by the eta of the round before, and its B u is the product of two means over all steps, with
             the sign of that first term turned; here both are the paper's, and unbiased. A normalised step is not
             clipped.
Leans on     nothing; with a critic (`control.reinforce(baseline=True)`) its gradient goes the same way
Experiment   experiments/control/harpg.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.control.parts import LogProbability
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Rows
    from frugal.control.net import Net
    from frugal.control.networks import Weights

BASE = "control.reinforce"
VARIANTS = ("n-harpg", "n-pg-igt")


@dataclass(frozen=True)
class Elsewhere:
    """The weights that collect: those at theta_t and theta_q in turn, or at theta_e."""

    variant: str

    def begin(self, run: Any) -> Any:
        return LiveElsewhere(self.variant, run)


@dataclass(frozen=True)
class Transported:
    """The normalised step along d_t."""

    variant: str

    def begin(self, run: Any) -> Any:
        return LiveTransported(self.variant, run)


class Iterates:
    """theta_t and theta_{t-1} of who asks once a round, and the point where the other trajectories are drawn."""

    def __init__(self, variant: str, run: Any):
        self.igt, self.run = variant == "n-pg-igt", run
        self.last = run.net.all.vector.clone()

    @property
    def t(self) -> int:
        """Steps so far, one a collection; short collections share a round of the loop."""
        return self.run.ledger.gradient_steps  # type: ignore[no-any-return]

    @property
    def eta(self) -> float:
        return float((2 / (self.t + 2)) ** (0.8 if self.igt else 1.0))

    def next(self) -> tuple[Tensor, Tensor]:
        """(theta_e or theta_q, u) as vectors; the next round follows."""
        now = self.run.net.all.vector
        u = now - self.last
        if self.igt:
            point = now + (1 - self.eta) / self.eta * u
        else:  # the same q for whoever asks in this round
            point = self.last + torch.rand((), generator=self.run.rng("harpg", self.t)) * u
        self.last.copy_(now)
        return point, u

    def state_dict(self) -> dict[str, Tensor]:
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.last.copy_(state["last"])


class LiveElsewhere(Iterates):
    def __call__(self, net: Net, steps: list[Any]) -> list[Weights]:
        if not steps:
            others = net.all.views(self.next()[0])
            self.sets: list[Weights] = [others] if self.igt else [net.weights, others]
        return self.sets


class LiveTransported(Iterates):
    def __init__(self, variant: str, run: Any):
        super().__init__(variant, run)
        self.d = torch.zeros_like(self.last)

    def __call__(self, net: Net, loss: Any, rows: Rows) -> float:
        eta, (point, u) = self.eta, self.next()
        if self.igt:
            weights = at(net, point)
            d = (1 - eta) * self.d + eta * net.all.gradient(whole(loss, weights, rows), weights)
        else:
            here, others = rows.take(rows.set == 0), rows.take(rows.set == 1)
            d = self.d + curvature(net, loss, others, point, u)
            d = (1 - eta) * d + eta * net.all.gradient(whole(loss, net.weights, here))
        norm = float(d.norm())
        if 0 < norm < float("inf"):
            self.d.copy_(d)
            net.all.vector.sub_(d, alpha=self.run.settings.lr * 2 / (self.t + 2) / norm)
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {"last": self.last, "d": self.d}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.d.copy_(state["d"])


def at(net: Net, point: Tensor) -> Weights:
    """The weights at a point, to be differentiated by."""
    return {name: w.requires_grad_() for name, w in net.all.views(point).items()}


def whole(loss: Any, weights: Weights, rows: Rows) -> Tensor:
    """The mean over the trajectories in rows of their losses, each summed over its steps."""
    return loss(weights, rows) * len(rows) / (rows.term | rows.cut).sum()


def curvature(net: Net, loss: Any, rows: Rows, point: Tensor, u: Tensor) -> Tensor:
    """The unbiased estimate B u of the expected gradient's derivative along u, from trajectories drawn at a point."""
    ended = (rows.term | rows.cut).long()
    which, n = ended.cumsum(0) - ended, int(ended.sum())
    total = torch.zeros_like(u)
    for i in range(n):
        one, weights = rows.take(which == i), at(net, point)
        g = net.all.gradient(whole(loss, weights, one), weights, graph=True)
        score = net.all.gradient(net.law(one.obs, weights=weights).logp(one.act).sum(), weights) @ u
        total += score * g.detach() + net.all.gradient(g @ u, weights)
    return total / n


@patch
def harpg(variant: str = "n-harpg", trajectories: int = 2) -> Patch:
    """Hessian-aided recursive policy gradient (N-HARPG), or implicit gradient transport (N-PG-IGT), normalised."""
    if variant not in VARIANTS:
        raise BadRecipe(f"harpg(variant={variant!r}): choose from {', '.join(VARIANTS)}")
    if trajectories < 1 or (variant == "n-harpg" and trajectories % 2):
        raise BadRecipe(f"harpg(trajectories={trajectories}): give 1 or more, and an even number for n-harpg")
    return Patch(
        fill={
            "act.behaviour": Elsewhere(variant),
            "learn.surrogate": LogProbability(),
            "update.step": Transported(variant),
        },
        set={"envs": trajectories, "steps": 0, "epochs": 1, "batch": None, "whiten": False},
        silences=("max_grad_norm",),
        domain="control",
    )
