"""Distributions over actions, as a policy says them for a batch. Axes: B rows, A action dimensions.

Continuous actions are in [-1, 1]; `logp` is None where a law has no density.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from frugal import maths


@dataclass
class Deterministic:
    """One action for each row, [B,A]."""

    mode: Tensor

    def sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return self.mode, None


@dataclass
class TanhGaussian:
    """a = tanh(u), u ~ N(mean, exp(log_std)^2); both [B,A]."""

    mean: Tensor
    log_std: Tensor

    @property
    def mode(self) -> Tensor:
        return self.mean.tanh()

    def sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self.mean.shape, generator=rng)
        u = self.mean + self.log_std.exp() * noise
        return u.tanh(), maths.tanh_gaussian_logp(noise, self.log_std, u)


@dataclass
class Gaussian:
    """a ~ N(mean, exp(log_std)^2), not bounded: the environment clips what it takes. mean [B,A], log_std [A]."""

    mean: Tensor
    log_std: Tensor

    @property
    def mode(self) -> Tensor:
        return self.mean

    def sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = torch.randn(self.mean.shape, generator=rng)
        return self.mean + self.log_std.exp() * noise, maths.gaussian_logp(noise, self.log_std)

    def logp(self, a: Tensor) -> Tensor:
        """log pi(a) [B]"""
        return maths.gaussian_logp((a - self.mean) * (-self.log_std).exp(), self.log_std)

    @property
    def entropy(self) -> Tensor:
        return maths.gaussian_entropy(self.log_std).expand(len(self.mean))

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self, other) [B]"""
        return maths.gaussian_kl(self.mean, self.log_std, other.mean, other.log_std)


@dataclass
class Categorical:
    """One choice in each action dimension, drawn by itself; logits [B,choices] a dimension."""

    logits: tuple[Tensor, ...]

    @property
    def mode(self) -> Tensor:
        return torch.stack([x.argmax(1) for x in self.logits], 1).float()

    def sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = [(x - torch.empty_like(x).exponential_(generator=rng).log()).argmax(1) for x in self.logits]  # Gumbel
        a = torch.stack(drawn, 1).float()
        return a, self.logp(a)

    def logp(self, a: Tensor) -> Tensor:
        """log pi(a) [B]"""
        chosen = [x.log_softmax(1).gather(1, a[:, i : i + 1].long())[:, 0] for i, x in enumerate(self.logits)]
        return torch.stack(chosen).sum(0)

    @property
    def entropy(self) -> Tensor:
        logs = [x.log_softmax(1) for x in self.logits]
        return torch.stack([-(x.exp() * x).sum(1) for x in logs]).sum(0)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self, other) [B]"""
        pairs = zip(self.logits, other.logits, strict=True)
        return torch.stack([maths.categorical_kl(x, y) for x, y in pairs]).sum(0)
