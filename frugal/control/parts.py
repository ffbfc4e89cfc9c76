"""The fillings that base recipes of control are made of. Each is frozen data; equations are in `maths`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .batch import Batch, Rows
    from .net import Net
    from .networks import Weights
    from .replay import Replay
    from .spaces import Spaces


# -- act ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """The policy's most likely action."""

    def __call__(self, net: Net, obs: Tensor) -> Tensor:
        return net.law(obs).mode


@dataclass(frozen=True)
class AsDrawn:
    """What the policy drew, as it is."""

    def __call__(self, a: Tensor, obs: Tensor, role: str, rng: torch.Generator) -> Tensor:
        return a


@dataclass(frozen=True)
class EpsilonGreedy:
    """A uniform action with probability epsilon, from `start` to `end` over the first `share` of the budget."""

    start: float
    end: float
    share: float

    def begin(self, run: Any) -> Any:
        choices = torch.tensor(run.spaces.choices)

        def explore(a: Tensor, obs: Tensor, role: str, rng: torch.Generator) -> Tensor:
            if role != "collect":
                return a
            drawn = (torch.rand(a.shape, generator=rng) * choices).floor()
            return torch.where(torch.rand(len(a), 1, generator=rng) < self.epsilon(run.progress), drawn, a)

        return explore

    def epsilon(self, progress: float) -> float:
        return self.start + (self.end - self.start) * min(progress / self.share, 1.0)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise while collecting; clipped noise on the target's action (Fujimoto et al. 2018, eq. 14)."""

    collect: float
    target: float
    clip: float

    def __call__(self, a: Tensor, obs: Tensor, role: str, rng: torch.Generator) -> Tensor:
        noise = torch.randn(a.shape, generator=rng)
        noise = noise * self.collect if role == "collect" else (noise * self.target).clamp(-self.clip, self.clip)
        return (a + noise).clamp(-1, 1)


@dataclass(frozen=True)
class Current:
    """The present weights collect."""

    def __call__(self, net: Net, steps: list[Any]) -> list[Weights]:
        return [net.weights]


# -- credit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnvironmentReward:
    """What the environment says; its mean is that of the episodes' returns, and is not noted again."""

    unnoted = True

    def __call__(self, batch: Batch) -> Tensor:
        return batch.reward


@dataclass(frozen=True)
class Least:
    """The least of the critics (clipped double Q-learning: Fujimoto et al. 2018, arXiv 1802.09477, eq. 10)."""

    def __call__(self, q: Tensor, logp: Tensor | None, net: Net) -> Tensor:
        return q.amin(0)


@dataclass(frozen=True)
class SoftLeast:
    """min_k q_k - alpha log pi (Haarnoja et al. 2018, arXiv 1812.05905, eq. 3)."""

    def __call__(self, q: Tensor, logp: Tensor, net: Net) -> Tensor:
        return q.amin(0) - net.weights["actor.log_alpha"].detach().exp() * logp


@dataclass(frozen=True)
class GAE:
    """Generalised advantage estimation; the target is A + v."""

    lam: float

    def begin(self, run: Any) -> Any:
        def advantage(r: Tensor, v: Tensor, v_next: Tensor, window: Batch) -> tuple[Tensor, Tensor]:
            A = maths.gae_episodes(r, v, v_next, window.term, window.ended, run.settings.gamma, self.lam)
            return A, A + v

        return advantage


# -- learn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoActor:
    """The policy is read off the critic."""

    every: int = 0

    def parameters(self, spaces: Spaces, rng: torch.Generator) -> dict[str, Tensor]:
        return {}

    def __call__(self, net: Net, batch: Batch) -> Tensor:
        raise AssertionError("every=0 never asks for it")


@dataclass(frozen=True)
class Ascend:
    """-q_1(s, pi(s)): the deterministic policy gradient (Silver et al. 2014; Fujimoto et al. 2018, algorithm 1)."""

    every: int

    def parameters(self, spaces: Spaces, rng: torch.Generator) -> dict[str, Tensor]:
        return {}

    def __call__(self, net: Net, batch: Batch) -> Tensor:
        a = net.law(batch.state, batch.z).mode
        return -net.q(batch.z, a)[0]


@dataclass(frozen=True)
class SoftActor:
    """alpha log pi - min_k q_k, and alpha by -log alpha (log pi + target) for a target entropy of -A
    (Haarnoja et al. 2018, arXiv 1812.05905, eq. 7 and 18, the latter with log alpha for alpha as in its code).
    """

    alpha: float = 1.0  # at the start
    every: int = 1

    def parameters(self, spaces: Spaces, rng: torch.Generator) -> dict[str, Tensor]:
        return {"actor.log_alpha": torch.tensor([math.log(self.alpha)])}

    def __call__(self, net: Net, batch: Batch) -> Tensor:
        a, logp = net.law(batch.state, batch.z).sample(batch.rng)
        log_alpha = net.weights["actor.log_alpha"]
        temperature = -log_alpha * (logp.detach() - net.spaces.actions)
        return log_alpha.detach().exp() * logp - net.q(batch.z, a).amin(0) + temperature


@dataclass(frozen=True)
class PPOClip:
    """-min(ratio A, clip(ratio) A): Schulman et al. 2017, arXiv 1707.06347, eq. 7."""

    clip: float

    def __call__(self, logp: Tensor, old: Tensor, A: Tensor) -> Tensor:
        ratio = (logp - old).exp()
        return -torch.minimum(ratio * A, ratio.clamp(1 - self.clip, 1 + self.clip) * A)


@dataclass(frozen=True)
class LogProbability:
    """-A log pi: Williams 1992."""

    def __call__(self, logp: Tensor, old: Tensor, A: Tensor) -> Tensor:
        return -A * logp


# -- update ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Uniform:
    """Every stored transition is as likely."""

    def __call__(self, store: Replay, B: int, rng: torch.Generator) -> tuple[Tensor, None]:
        return store.uniform(B, rng), None


@dataclass(frozen=True)
class Prioritised:
    """P(i) = p_i^alpha / sum p^alpha, p_i = |td| + eps, and weights (M P(i))^-beta over their largest in the batch
    (Schaul et al. 2016, arXiv 1511.05952, eq. 1 and section 3.4). A new row has the largest priority so far.
    """

    alpha: float = 0.6
    beta: float = 0.4  # at the start; 1 at the end of the budget
    eps: float = 1e-6

    def begin(self, run: Any) -> Any:
        return LivePriorities(self, run)


@dataclass
class LivePriorities:
    part: Prioritised
    run: Any
    store: Any = field(default=None)

    def __call__(self, store: Replay, B: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        self.store = store
        weights = store.priority[: store.used].double().cumsum(0)
        u = torch.rand(B, generator=rng, dtype=torch.float64) * weights[-1]
        rows = torch.searchsorted(weights, u, right=True).clamp(max=store.used - 1)
        share = store.priority[rows].double() / weights[-1]
        beta = self.part.beta + (1 - self.part.beta) * self.run.progress
        correction = (len(store) * share) ** -beta
        return rows, (correction / correction.max()).float()

    def seen(self, rows: Tensor, td: Tensor) -> None:
        """td [B], absolute"""
        priority = (td + self.part.eps) ** self.part.alpha
        self.store.priority[rows] = priority
        self.store.new_priority = max(self.store.new_priority, float(priority.max()))


@dataclass(frozen=True)
class Ratio:
    """`ratio` updates a sample, done together after every `every` samples."""

    ratio: float
    every: int = 1

    def __call__(self, before: int, after: int) -> int:
        return self._due(after) - self._due(before)

    def _due(self, samples: int) -> int:
        return math.floor(self.ratio * (samples // self.every) * self.every)


@dataclass(frozen=True)
class Newest:
    """Learn from this round alone."""

    def __call__(self, window: Batch) -> list[Batch]:
        return [window]


@dataclass(frozen=True)
class Adam:
    """Adam, the gradient clipped by its norm."""

    eps: float = 1e-5

    def begin(self, run: Any) -> Any:
        def step(net: Net, loss: Any, rows: Rows) -> float:
            s = run.settings
            return net.all.step(net.all.gradient(loss(net.weights, rows)), s.lr, s.max_grad_norm, self.eps)

        return step


@dataclass(frozen=True)
class RMSProp:
    """g / (sqrt(v) + eps), v the running mean of g^2, the gradient clipped by its norm (Mnih et al. 2016)."""

    decay: float = 0.99
    eps: float = 1e-5

    def begin(self, run: Any) -> Any:
        return LiveRMSProp(self, run)


class LiveRMSProp:
    def __init__(self, part: RMSProp, run: Any):
        self.part, self.run, self.square = part, run, torch.zeros_like(run.net.all.vector)

    def __call__(self, net: Net, loss: Any, rows: Rows) -> float:
        s, gradient = self.run.settings, net.all.gradient(loss(net.weights, rows))
        norm = float(gradient.norm())
        if norm < float("inf"):
            gradient *= min(1.0, s.max_grad_norm / (norm + 1e-6))
            self.square.lerp_(gradient.square(), 1 - self.part.decay)
            net.all.vector.addcdiv_(gradient, self.square.sqrt() + self.part.eps, value=-s.lr)
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return {"square": self.square}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.square.copy_(state["square"])
