"""All networks of a recipe, and what the loops and parts ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from frugal.core.live import Live
from frugal.core.recipe import Recipe
from frugal.core.run import Run

from .networks import Flat, Weights
from .spaces import Spaces


class Net:
    """Weights of encoder, policy, critic and actor loss, in groups that are stepped together.

    Off-policy the groups are "critic" (with the encoder, which learns from its loss alone) and "actor", on-policy it
    is one, `all`. `weights` and `target` are {name: tensor} over all of them.
    """

    def __init__(self, recipe: Recipe, spaces: Spaces, run: Run):
        parts, self.spaces = recipe.parts, spaces
        features = parts["learn.encoder"].size(spaces)

        def made(path: str, *sizes: Any) -> dict[str, Tensor]:
            return parts[path].parameters(spaces, *sizes, run.rng(path))  # type: ignore[no-any-return]

        critic = made("learn.encoder") | made("learn.critic", features)
        actor = made("learn.policy", features) | (made("learn.actor") if "learn.actor" in parts else {})
        self.by_target = heart(parts["learn.policy"]).by_target
        if recipe.domain.loop == "off-policy":
            self.groups = {"critic": Flat(critic), "actor": Flat(actor)}
            tracked = ["critic", "actor"] if self.by_target else ["critic"]
        else:
            self.groups, tracked = {"all": Flat(critic | actor)}, []
        self.weights: Weights = {k: v for group in self.groups.values() for k, v in group.weights.items()}
        self.tracked = {name: self.groups[name].vector.clone() for name in tracked}
        self.target: Weights = self.weights | {
            k: v for name, vector in self.tracked.items() for k, v in self.groups[name].views(vector).items()
        }
        self.encoder, self.policy, self.critic = (parts[f"learn.{name}"] for name in ("encoder", "policy", "critic"))
        self.deploy = parts["act.deploy"]

    def join(self, live: Live) -> None:
        """Use the parts as they are in this run."""
        self.encoder, self.policy, self.critic = live.encoder, live.policy, live.critic
        self.deploy = live.deploy

    @property
    def all(self) -> Flat:
        """The one group of the on-policy loop."""
        return self.groups["all"]

    @property
    def size(self) -> int:
        """Parameters, without those of the target."""
        return sum(group.vector.numel() for group in self.groups.values())

    def encode(self, obs: Tensor, weights: Weights | None = None) -> Tensor:
        """obs [B,O] -> z [B,D]"""
        return self.encoder(self.weights if weights is None else weights, obs)  # type: ignore[no-any-return]

    def law(self, obs: Tensor, z: Tensor | None = None, weights: Weights | None = None) -> Any:
        """The policy's law of actions at obs [B,O], encoded as z if that is known."""
        weights = self.weights if weights is None else weights
        return self.policy(self, weights, self.encode(obs, weights) if z is None else z, obs)

    def q(self, z: Tensor, a: Tensor, weights: Weights | None = None) -> Tensor:
        """Values [K,B] of actions a [B,A] at z [B,D]."""
        return self.critic(self.weights if weights is None else weights, z, a)  # type: ignore[no-any-return]

    def law_after(self, obs: Tensor) -> Any:
        """The law of the action that follows, of which a target takes the value."""
        return self.law(obs, weights=self.target if self.by_target else self.weights)

    @torch.no_grad()
    def track(self, tau: float) -> None:
        """target <- (1 - tau) target + tau now"""
        for name, vector in self.tracked.items():
            vector.lerp_(self.groups[name].vector, tau)

    def state_dict(self) -> dict[str, Tensor]:
        """{"critic/weights": ..., "critic/exp_avg": ..., "critic/target": ...}"""
        state = {f"{name}/{k}": v for name, group in self.groups.items() for k, v in group.state_dict().items()}
        return state | {f"{name}/target": vector for name, vector in self.tracked.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, group in self.groups.items():
            mine = {k.removeprefix(f"{name}/"): v for k, v in state.items() if k.startswith(f"{name}/")}
            if name in self.tracked:
                self.tracked[name].copy_(mine.pop("target"))
            group.load_state_dict(mine)


def heart(part: Any) -> Any:
    """What lies within all wrappers."""
    while getattr(part, "inner", None) is not None:
        part = part.inner
    return part
