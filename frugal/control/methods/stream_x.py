"""Deep RL from one transition at a time, without buffer, batch or target network: traces and a step that is bounded.

Changes      update.step: for the weights w of a network, after every step of the environment
             z <- gamma lam z + grad p(w),  w <- w + min(1, 1 / M) lr delta z,  M = lr kappa max(|delta|, 1) |z|_1
             and z <- 0 at the end of an episode. Values: p = v(s), or q(s,a); policy: p = log pi + tau sign(delta) H
             credit.advantage: delta = r + gamma v(s') - v(s); of `q` with max_a q(s',a) and q(s,a), and z <- 0 after
             an action that is not greedy too
             learn.policy, learn.critic: layer normalisation before each LeakyReLU, and at the start a unit keeps a
             tenth of its weights, even in +-1/sqrt(inputs); learn.encoder: normalised observations; credit.rewards:
             r over the spread of u <- gamma u + r; settings: rounds of one step
Source       Streaming Deep Reinforcement Learning Finally Works, Elsayed, Vasan and Mahmood 2024, arXiv 2410.14606,
             algorithms 1 to 6 and its defaults; three agents by one argument, as in
             github.com/mohmdelsayed/streaming-drl: `ac`, stream AC(lam); `q`, stream Q(lam), one discrete action,
             epsilon-greedy; `td`, stream TD(lam), values of the start policy, which stays
Ours         a unit keeps at least one incoming weight (the released code keeps floor(inputs / 10), so that a first
             layer of fewer than ten inputs begins with none); an episode that is cut off still bootstraps, there it
             does not, and drops u before an episode's last reward instead of after it; an observation is normalised by
             what was seen before it; the spread of a Gaussian policy is the base's, which does not depend on the
             state; no time is added to observations; widths are the base's (the paper: `hidden=(128, 128)`)
Leans on     nothing
Experiment   experiments/control/stream_x.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.control.parts import GAE
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch, Rows
    from frugal.control.laws import Categorical
    from frugal.control.net import Net
    from frugal.control.networks import Weights
    from frugal.control.spaces import Spaces

BASE = "a2c"
AGENTS = ("ac", "q", "td")


@dataclass(frozen=True)
class BoundedTraces:
    """Eligibility traces of all networks, with the bounded step ObGD."""

    agent: str
    lr: float
    lam: float
    kappa: float
    kappa_policy: float
    tau: float
    sparse: bool

    def begin(self, run: Any) -> Any:
        if run.spaces.pixels:
            raise BadTask("stream-x learns from vectors; give an environment whose observations are no pictures")
        if self.sparse:
            for name, w in run.net.weights.items():
                if w.dim() == 2:
                    w.data.copy_(sparse(w.shape[0], w.shape[1], run.rng(name, "sparse")))
        return LiveTraces(self, run)


class LiveTraces:
    def __init__(self, part: BoundedTraces, run: Any):
        self.part, self.run = part, run
        self.z = torch.zeros_like(run.net.all.vector)
        values = sum(w.numel() for name, w in run.net.weights.items() if not name.startswith("policy."))
        self.networks = ((slice(0, values), part.kappa), (slice(values, None), part.kappa_policy))

    def __call__(self, net: Net, loss: Any, rows: Rows) -> float:
        """One step on rows [1]; returns the norm of delta z."""
        features = net.encode(rows.obs)
        law = net.law(rows.obs, features)
        if self.part.agent == "q":
            p = net.critic.all(net.weights, features).gather(1, rows.act.long())[:, 0]
        else:
            p = net.critic(net.weights, features)
        delta = rows.target - p.detach()  # [1]
        if self.part.agent == "ac":
            p = p + law.logp(rows.act) + self.part.tau * delta.sign() * law.entropy
        z = self.run.settings.gamma * self.part.lam * self.z + net.all.gradient(p.sum())
        norm = float((delta * z).norm())
        if not norm < float("inf"):
            return norm
        for where, kappa in self.networks:
            net.all.vector[where] += bounded(self.part.lr, kappa, delta, z[where]) * delta * z[where]
        over = rows.term | rows.cut
        if self.part.agent == "q":
            over = over | (law.mode != rows.act)[:, 0]
        self.z = torch.zeros_like(z) if bool(over) else z
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {"z": self.z}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.z = state["z"].clone()


def bounded(lr: float, kappa: float, delta: Tensor, z: Tensor) -> Tensor:
    """lr / max(M, 1), M = lr kappa max(|delta|, 1) |z|_1; delta [1], z [P] -> [1]."""
    return lr / (lr * kappa * delta.abs().clamp(min=1) * z.abs().sum()).clamp(min=1)


def sparse(outputs: int, inputs: int, rng: torch.Generator) -> Tensor:
    """[outputs, inputs] even in +-1/sqrt(inputs), all but a tenth of each row, one at least, put to 0."""
    drawn = (2 * torch.rand(outputs, inputs, generator=rng) - 1) / inputs**0.5
    order = torch.rand(outputs, inputs, generator=rng).argsort(1)
    return torch.where(order < max(inputs // 10, 1), drawn, 0.0)


@dataclass(frozen=True)
class ActionValues:
    """q(z,.) of the widths of the base's v, in its stead; the largest is the value of a state."""

    inner: Any = None

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from frugal.control.networks import mlp_weights

        if len(spaces.choices) != 1:
            raise BadTask("stream-x(agent='q') takes one discrete action (Discrete); leave agent out")
        return mlp_weights("critic", (features, *self.inner.hidden, spaces.choices[0]), rng)

    def all(self, weights: Weights, z: Tensor) -> Tensor:
        """[B,choices]"""
        from frugal.control.networks import mlp

        return mlp(weights, "critic", z, len(self.inner.hidden) + 1, self.inner.activation)

    def __call__(self, weights: Weights, z: Tensor) -> Tensor:
        return self.all(weights, z).amax(1)


@dataclass(frozen=True)
class EpsilonGreedyLaw:
    """The action of the largest value, or a uniform one with probability epsilon, in the policy's stead."""

    epsilon: tuple[float, float, float]  # start, end, share of the budget between them
    inner: Any = None

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {}

    def begin(self, run: Any) -> Any:
        start, end, share = self.epsilon

        def law(net: Net, weights: Weights, z: Tensor, obs: Tensor) -> Categorical:
            from frugal.control.laws import Categorical

            q = net.critic.all(weights, z)
            epsilon = start + (end - start) * min(run.progress / share, 1.0)
            greedy = torch.zeros_like(q).scatter(1, q.argmax(1, keepdim=True), 1.0)
            return Categorical(((epsilon / q.shape[1] + (1 - epsilon) * greedy).log(),))

        return law


@dataclass(frozen=True)
class ScaledReward:
    """r over the spread of u <- gamma u + r, u = 0 where an episode begins."""

    def begin(self, run: Any) -> Any:
        return LiveScale(run)


class LiveScale:
    def __init__(self, run: Any):
        self.run, self.u, self.count, self.mean, self.square = run, 0.0, 0, 0.0, 0.0

    def observe(self, step: Any) -> None:
        """Welford's update with one step."""
        self.u = self.run.settings.gamma * self.u + float(step.reward)
        self.count += 1
        away = self.u - self.mean
        self.mean += away / self.count
        self.square += away * (self.u - self.mean)
        if bool(step.ended):
            self.u = 0.0

    def __call__(self, batch: Batch) -> Tensor:
        variance = self.square / (self.count - 1) if self.count > 1 else 1.0
        return batch.reward / (variance + 1e-8) ** 0.5

    def state_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("u", "count", "mean", "square")}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


@patch
def stream_x(
    agent: str = "ac",
    lr: float = 1.0,
    lam: float = 0.8,
    kappa: float = 2.0,
    kappa_policy: float = 3.0,
    tau: float = 0.01,
    epsilon: tuple[float, float, float] = (1.0, 0.01, 0.05),
    network: bool = True,
    normalise: bool = True,
    scale: bool = True,
) -> Patch:
    """Learn from every transition at once and forget it; `network` is what layers look like and begin with,
    `normalise` is of observations, `scale` of rewards.
    """
    if agent not in AGENTS:
        raise BadRecipe(f"stream-x(agent={agent!r}): choose from {', '.join(AGENTS)}")
    if agent != "ac" and (kappa_policy, tau) != (3.0, 0.01):
        raise BadRecipe(f"stream-x(agent={agent!r}) trains no policy; leave kappa_policy and tau out")
    if agent != "q" and epsilon != (1.0, 0.01, 0.05):
        raise BadRecipe(f"stream-x(agent={agent!r}) draws from a policy; leave epsilon out")
    fill: dict[str, Any] = {
        "credit.advantage": GAE(0.0),
        "update.step": BoundedTraces(agent, lr, lam, kappa, kappa_policy, tau, network),
    }
    if network:
        fill |= {"learn.policy.activation": "normalised", "learn.critic.activation": "normalised"}
    if normalise:
        fill |= {"learn.encoder.normalise": True}
    return Patch(
        fill=fill,
        wrap={"learn.policy": EpsilonGreedyLaw(epsilon), "learn.critic": ActionValues()} if agent == "q" else {},
        add={"credit.rewards.task": ScaledReward()} if scale else {},
        set={"envs": 1, "steps": 1, "epochs": 1, "batch": None},
        silences=("learn.surrogate", "learn.terms", "lr", "value", "entropy", "whiten", "max_grad_norm"),
        optional={"learn.encoder": "normalise=False", "credit.rewards": "scale=False"},
        domain="control",
    )
