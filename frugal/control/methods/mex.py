"""Optimism without a bonus: the critic fits its targets and is rewarded for valuing what the policy would do.

Changes      learn.terms: - eta sum_k (q_k(s, pi(s)) - log sum_a exp q_k(s, a)), the sum over the action in the data,
             pi(s'), and an action drawn evenly; without `baseline` - eta sum_k q_k(s, a) of the actions in the data
Source       One Objective to Rule Them All: A Maximization Objective Fusing Estimation and Planning for Exploration
             (MEX), Liu et al. 2023, arXiv 2305.18258: max over f of V_f - eta L(f), model-free form; term, eta and
             baseline of the runs in github.com/agentification/MEX (MEX_MF/IO.py, run_experiments.sh)
Ours         the value of the action in the data is each critic's own, where the released code takes that of the first
             one twice. pi is the policy's most likely action, so that `sac` and `dqn` have the term too.
Leans on     the off-policy loop (`td3`, `sac`, `dqn`)
Experiment   experiments/control/mex.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch
    from frugal.control.net import Net

BASE = "td3"  # that it is tested on
NEUTRAL = {"eta": 0.0}
VISIBLE = {"eta": 0.5}


@dataclass(frozen=True)
class Optimism:
    """What the critics are rewarded for, on their pass."""

    eta: float
    baseline: bool

    def begin(self, run: Any) -> Callable[[Net, Batch], Tensor]:
        from frugal.control.loop_off import uniform

        def term(net: Net, batch: Batch) -> Tensor:
            rng = run.rng("learn.terms.mex", run.ledger.gradient_steps)
            return self.loss(net, batch, uniform(net.spaces, len(batch.state), rng))

        return term

    def loss(self, net: Net, batch: Batch, drawn: Tensor) -> Tensor:
        """The equation of the head; drawn [B,A] -> [B]"""
        z = net.encode(batch.state)
        if not self.baseline:
            return -self.eta * net.q(z, batch.action).sum(0)
        with torch.no_grad():
            here, after = (net.law(obs).mode for obs in (batch.state, batch.next[:, 0]))
        others = torch.stack([net.q(z, a) for a in (batch.action, after, drawn)])  # [3,K,B]
        return -self.eta * (net.q(z, here) - others.logsumexp(0)).sum(0)


@patch
def mex(eta: float = 0.005, baseline: bool = True) -> Patch:
    """Reward the critics for the value of the policy's action, above that of other actions unless not `baseline`."""
    if eta < 0:
        raise BadRecipe(f"mex(eta={eta}): give eta >= 0")
    return Patch(add={"learn.terms": Optimism(eta, baseline)}, reads=("credit.value",), domain="control")
