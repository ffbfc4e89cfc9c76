"""A second critic judges what a decision leaves behind, before the noise; the larger of two advantages is learnt from.

Changes      credit.advantage, with s^x the state after a decision and before the noise, r^x the share of the reward
             that is certain by then, and GAE the base's own estimator:
             rule "max": A_t = max(GAE(r - r^x, V)_t, GAE(r^x, V_x)_t); V has the targets of r - r^x, V_x those of r^x
             rule "q": A_t = r^x_t + V_x(s^x_t) - V(s_t); V has the base's target y_t, V_x the target y_t - r^x_t
             V_x is a network of its own with its own Adam, fitted after each round as often as the base learns from it
Source       A Reinforcement Learning Method for Environments with Stochastic Variables: Post-Decision Proximal Policy
             Optimization with Dual Critic Networks, Felizardo et al. 2025, arXiv 2504.05150: dual critics and the
             larger advantage of its method section; which reward is whose from the released code (leokan92/pdppo)
Ours         rule "q", because under "max" nobody learns from the sum of both rewards, the largest of two noises is
             biased upwards, and V_x(s^x) knows the action, so that its advantage is noise alone; in "q" the noise of
             the step is gone instead. The released code has returns to the end of the episode where the base has GAE
             (lam=1.0 gives them), learns from the last five rounds, and has 40 passes a round; an earlier version of
             it has one return for both critics. Where an episode is cut or a round ends, the last V_x stands for what
             follows; observations are normalised by the base's encoder, s^x like the others.
Leans on     an environment that says `post`, an observation, and `post_reward`, a part of its reward
Experiment   experiments/control/pdppo.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.control.approximators import Value
from frugal.control.parts import EnvironmentReward
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch

BASE = "control.ppo"
TASK = "frugal/LotSizing-v0"
RULES = ("max", "q")


@dataclass(frozen=True)
class DualCritics:
    rule: str
    hidden: tuple[int, ...]
    inner: Any = None
    columns = ("post", "post_reward")

    def begin(self, run: Any) -> Any:
        return LiveDualCritics(self, run)


class LiveDualCritics:
    def __init__(self, part: DualCritics, run: Any):
        from frugal.control.networks import Flat

        self.part, self.run, self.critic = part, run, Value(part.hidden)
        features = run.net.encoder.size(run.spaces)
        self.own = Flat(self.critic.parameters(run.spaces, features, run.rng("pdppo")))
        self.targets: list[tuple[Tensor, Tensor]] = []  # z[B,D], y[B] of V_x in this round

    def __call__(self, r: Tensor, v: Tensor, v_next: Tensor, window: Batch) -> tuple[Tensor, Tensor]:
        r_x, post = window.columns["post_reward"][..., 0], window.columns["post"]
        if post.shape[2:] != window.obs.shape[2:]:
            raise BadTask(
                f"`post` in `info` has {post.shape[2]} numbers and an observation has the shape "
                f"{list(window.obs.shape[2:])}; pdppo takes an observation, of vectors"
            )
        z = self.run.net.encode(post.flatten(0, 1))
        v_x = self.critic(self.own.weights, z).view(r.shape)
        if self.part.rule == "max":
            A, target = self.part.inner(r - r_x, v, v_next, window)
            follows = torch.where(window.ended, v_x, torch.cat([v_x[:, 1:], v_x[:, -1:]], 1))
            A_x, y = self.part.inner(r_x, v_x, follows, window)
            A = torch.maximum(A, A_x)
        else:
            _, target = self.part.inner(r, v, v_next, window)
            A, y = r_x + v_x - v, target - r_x
        self.targets.append((z.view(*r.shape, -1)[window.valid], y[window.valid]))
        return A, target

    def learn(self, window: Batch) -> None:
        """Fit V_x to this round's targets."""
        s, rng = self.run.settings, self.run.rng("pdppo", self.run.ledger.samples)
        z, y = (torch.cat(each) for each in zip(*self.targets, strict=True))
        for _ in range(s.epochs):
            for where in torch.randperm(len(y), generator=rng).split(s.batch or len(y)):
                loss = (self.critic(self.own.weights, z[where]) - y[where]).square().mean()
                self.own.step(self.own.gradient(loss), s.lr, s.max_grad_norm)
        self.targets = []

    def state_dict(self) -> dict[str, Tensor]:
        return self.own.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.own.load_state_dict(state)


@patch
def pdppo(rule: str = "max", hidden: tuple[int, ...] = (64, 64)) -> Patch:
    """Post-decision PPO: a critic of width `hidden` on the state after the decision, joined by `rule`."""
    if rule not in RULES:
        raise BadRecipe(f"pdppo(rule={rule!r}): choose from {', '.join(RULES)}")
    return Patch(
        wrap={"credit.advantage": DualCritics(rule, hidden)},
        add={"credit.rewards.task": EnvironmentReward()},  # of which r^x is a part
        domain="control",
    )
