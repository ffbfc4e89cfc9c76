"""Networks as parts of recipes of control: what encodes observations, the policies, the critics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .laws import Categorical, Deterministic, Gaussian, TanhGaussian
    from .net import Net
    from .networks import Weights
    from .spaces import Spaces

LOG_STD = (-20.0, 2.0)  # bounds of a squashed Gaussian's, as in Haarnoja's code


@dataclass(frozen=True)
class Shift:
    """Pictures moved by up to `pad` pixels in each direction, their edges repeated
    (Yarats et al. 2021, arXiv 2004.13649, section 3.1).
    """

    pad: int

    def __call__(self, obs: Tensor, rng: torch.Generator) -> Tensor:
        """obs [B,n,H,W,C] uint8 -> the same; the steps of a row move together."""
        B, _, H, W = obs.shape[:4]
        by = torch.randint(-self.pad, self.pad + 1, (2, B, 1), generator=rng)
        y = (torch.arange(H) + by[0]).clamp(0, H - 1)
        x = (torch.arange(W) + by[1]).clamp(0, W - 1)
        return obs.transpose(0, 1)[:, torch.arange(B)[:, None, None], y[:, :, None], x[:, None]].transpose(0, 1)


@dataclass(frozen=True)
class Encoder:
    """Vectors as they are, or `normalise`d by the mean and spread of what was seen while collecting; pictures through
    three convolutions. `view` is what learning sees of the observations: (obs, rng) -> obs.
    """

    normalise: bool = False
    features: int = 256  # of a picture
    view: Any = None

    def begin(self, run: Any) -> Any:
        return Running(self, run.spaces.shape) if self.normalise else self

    def size(self, spaces: Spaces) -> int:
        return self.features if spaces.pixels else spaces.shape[0]

    def parameters(self, spaces: Spaces, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import convolutions

        return convolutions("encoder", spaces.shape, self.features, rng) if spaces.pixels else {}

    def __call__(self, weights: Weights, obs: Tensor) -> Tensor:
        from .networks import convolve

        return obs if obs.dtype != torch.uint8 else convolve(weights, "encoder", obs)


class Running:
    """Normalises by running moments, which only collected steps move: never replay, never evaluation."""

    def __init__(self, encoder: Encoder, shape: tuple[int, ...]):
        self.encoder, self.view = encoder, encoder.view
        self.count, self.mean, self.square = 0, torch.zeros(shape).double(), torch.zeros(shape).double()

    def observe(self, step: Any) -> None:
        """Welford's update with the rows of one step."""
        for x in step.obs[step.valid].double():
            self.count += 1
            away = x - self.mean
            self.mean = self.mean + away / self.count
            self.square = self.square + away * (x - self.mean)

    def __call__(self, weights: Weights, obs: Tensor) -> Tensor:
        if self.count < 2:
            return self.encoder(weights, obs)
        spread = (self.square / self.count + 1e-8).sqrt()
        return self.encoder(weights, ((obs - self.mean) / spread).clamp(-10, 10).float())

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.mean, self.square = state["count"], state["mean"], state["square"]


@dataclass(frozen=True)
class Greedy:
    """The action of the largest value; the target's own values choose for it unless `double`
    (van Hasselt et al. 2016, arXiv 1509.06461, eq. 4).
    """

    double: bool

    @property
    def by_target(self) -> bool:  # whose weights choose the action that follows
        return not self.double

    def accepts(self, spaces: Spaces) -> str:
        return "" if len(spaces.choices) == 1 else "one discrete action (Discrete)"

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {}

    def __call__(self, net: Net, weights: Weights, z: Tensor, obs: Tensor) -> Deterministic:
        from .laws import Deterministic

        return Deterministic(net.critic.all(weights, z)[0].argmax(1, keepdim=True).float())


@dataclass(frozen=True)
class TanhMean:
    """a = tanh(f(z)): the deterministic policy of TD3, whose target has weights of its own."""

    hidden: tuple[int, ...]
    by_target = True

    def accepts(self, spaces: Spaces) -> str:
        return "" if spaces.continuous else "continuous actions (Box)"

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import mlp_weights

        return mlp_weights("policy", (features, *self.hidden, spaces.actions), rng)

    def __call__(self, net: Net, weights: Weights, z: Tensor, obs: Tensor) -> Deterministic:
        from .laws import Deterministic
        from .networks import mlp

        return Deterministic(mlp(weights, "policy", z, len(self.hidden) + 1).tanh())


@dataclass(frozen=True)
class SquashedGaussian:
    """a = tanh(u), u ~ N(mean(z), std(z)^2)."""

    hidden: tuple[int, ...]
    by_target = False

    def accepts(self, spaces: Spaces) -> str:
        return "" if spaces.continuous else "continuous actions (Box)"

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import mlp_weights

        return mlp_weights("policy", (features, *self.hidden, 2 * spaces.actions), rng)

    def __call__(self, net: Net, weights: Weights, z: Tensor, obs: Tensor) -> TanhGaussian:
        from .laws import TanhGaussian
        from .networks import mlp

        mean, log_std = mlp(weights, "policy", z, len(self.hidden) + 1).chunk(2, 1)
        return TanhGaussian(mean, log_std.clamp(*LOG_STD))


@dataclass(frozen=True)
class Stochastic:
    """A Gaussian whose spread does not depend on the state, or independent choices: what the actions need."""

    hidden: tuple[int, ...]
    activation: str = "tanh"
    by_target = False

    def accepts(self, spaces: Spaces) -> str:
        return ""

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import mlp_weights

        outputs = spaces.actions if spaces.continuous else sum(spaces.choices)
        weights = mlp_weights("policy", (features, *self.hidden, outputs), rng, (math.sqrt(2), 0.01))
        return weights | ({"policy.log_std": torch.zeros(outputs)} if spaces.continuous else {})

    def __call__(self, net: Net, weights: Weights, z: Tensor, obs: Tensor) -> Gaussian | Categorical:
        from .laws import Categorical, Gaussian
        from .networks import mlp

        out = mlp(weights, "policy", z, len(self.hidden) + 1, self.activation)
        if net.spaces.continuous:
            return Gaussian(out, weights["policy.log_std"])
        return Categorical(out.split(net.spaces.choices, 1))


@dataclass(frozen=True)
class ActionValues:
    """q(z, .) of every discrete action; `duelling` as value plus centred advantages (Wang et al. 2016,
    arXiv 1511.06581, eq. 9). Huber loss.
    """

    hidden: tuple[int, ...]
    duelling: bool

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import mlp_weights

        outputs = spaces.choices[0] + self.duelling
        return mlp_weights("critic", (features, *self.hidden, outputs), rng)

    def all(self, weights: Weights, z: Tensor) -> Tensor:
        """[1,B,choices]"""
        from .networks import mlp

        q = mlp(weights, "critic", z, len(self.hidden) + 1)
        if self.duelling:
            q = q[:, :1] + q[:, 1:] - q[:, 1:].mean(1, keepdim=True)
        return q[None]

    def __call__(self, weights: Weights, z: Tensor, a: Tensor) -> Tensor:
        return self.all(weights, z)[0].gather(1, a.long())[:, 0][None]

    def loss(self, q: Tensor, y: Tensor) -> Tensor:
        """q [K,B], y [B] -> [B]"""
        return torch.nn.functional.smooth_l1_loss(q, y.expand_as(q), reduction="none").sum(0)


@dataclass(frozen=True)
class Ensemble:
    """`members` networks q_k(z, a) beside one another, with the loss scale * sum_k (q_k - y)^2."""

    hidden: tuple[int, ...]
    members: int
    scale: float

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import ensemble_weights

        return ensemble_weights("critic", self.members, (features + spaces.actions, *self.hidden, 1), rng)

    def __call__(self, weights: Weights, z: Tensor, a: Tensor) -> Tensor:
        from .networks import ensemble

        return ensemble(weights, "critic", self.members, torch.cat([z, a], 1), len(self.hidden) + 1)

    def loss(self, q: Tensor, y: Tensor) -> Tensor:
        """q [K,B], y [B] -> [B]"""
        return self.scale * (q - y).square().sum(0)


@dataclass(frozen=True)
class Value:
    """v(z), with a squared loss."""

    hidden: tuple[int, ...]
    activation: str = "tanh"

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        from .networks import mlp_weights

        return mlp_weights("critic", (features, *self.hidden, 1), rng, (math.sqrt(2), 1.0))

    def __call__(self, weights: Weights, z: Tensor) -> Tensor:
        from .networks import mlp

        return mlp(weights, "critic", z, len(self.hidden) + 1, self.activation)[:, 0]


@dataclass(frozen=True)
class NoBaseline:
    """v = 0."""

    def parameters(self, spaces: Spaces, features: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {}

    def __call__(self, weights: Weights, z: Tensor) -> Tensor:
        return z.new_zeros(len(z))
