"""Steps are collected by a policy that avoids what was done too often so far, so that the data fit the present policy.

Changes      act.behaviour: after every `every` steps of a round phi = theta, then `epochs` passes of Adam over all
             (s, a) of D in `minibatches` pieces, on
             max(g, clip(g, 1 - clip, 1 + clip)) + kl KL(pi_theta, pi_phi), with g = pi_phi(a|s) / pi_theta(a|s),
             of which the first term is max(g, 1 - clip); it ends once the mean of g - 1 - log g is above `limit`.
             D are the steps of this round and of the `buffer` - 1 rounds before; pi_phi collects what follows
             update.keep: what is learnt from is D, as if theta had sampled it, without importance weights
Source       On-Policy Policy Gradient Reinforcement Learning Without On-Policy Sampling, Corrado and Hanna 2023, arXiv
             2311.08290: loss and algorithm of PROPS; the defaults, the gradient's norm of at most 0.5 and Adam's memory
             over the resets of phi are those of ppo_discrete.py in github.com/NicholasCorrado/PROPS
Ours         kl=0.1: the paper penalises the divergence, and the released code for discrete actions leaves the penalty
             out. phi is adapted at the beginning of a round too, where the released code collects the first `every`
             steps with what it adapted before theta was updated. The advantages of all of D are estimated, where its
             loop reaches one round of the buffer only. An update beyond the limit is not made, there it is the last.
Leans on     the on-policy loop (`control.ppo`, `a2c`, `control.reinforce`)
Experiment   experiments/control/props.py
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch
    from frugal.control.env import Step
    from frugal.control.net import Net
    from frugal.control.networks import Weights

BASE = "control.ppo"  # that it is tested on
NEUTRAL = {"epochs": 0, "buffer": 1}
NORM = 0.5  # of the behaviour policy's gradient, at most


@dataclass(frozen=True)
class Undersampled:
    """Collects with a policy that makes the actions of D less likely, and so those that D lacks more likely."""

    every: int
    epochs: int
    minibatches: int
    lr: float
    clip: float
    kl: float
    limit: float
    buffer: int

    def begin(self, run: Any) -> LiveBehaviour:
        return LiveBehaviour(self, run)


class LiveBehaviour:
    """`phi` are the behaviour policy's own weights; `past` states and actions of earlier rounds, `round` of this."""

    def __init__(self, part: Undersampled, run: Any):
        from frugal.control.networks import Flat

        self.part, self.run = part, run
        self.phi = Flat({name: w for name, w in run.net.weights.items() if name.startswith("policy.")})
        self.past: deque[tuple[Tensor, Tensor]] = deque(maxlen=part.buffer - 1)
        self.round: list[tuple[Tensor, Tensor]] = []

    def __call__(self, net: Net, steps: list[Step]) -> list[Weights]:
        weights = {**net.weights, **self.phi.weights}
        if len(steps) % self.part.every == 0:
            for name, w in self.phi.weights.items():
                w.copy_(net.weights[name])
            del self.round[len(steps) :]  # all of it, where a round begins
            self.round += [(step.obs[step.valid], step.act[step.valid]) for step in steps[len(self.round) :]]
            D = [*self.past, *self.round]
            if D and self.part.epochs:
                obs, act = (torch.cat(x) for x in zip(*D, strict=True))
                self.adapt(net, weights, obs, act, self.run.rng("act.behaviour", self.run.ledger.samples))
        return [weights]

    def adapt(self, net: Net, weights: Weights, obs: Tensor, act: Tensor, rng: torch.Generator) -> None:
        """The equation of the head. obs [M,O], act [M,A]"""
        part, size = self.part, -(-len(obs) // self.part.minibatches)
        for _ in range(part.epochs):
            for rows in torch.randperm(len(obs), generator=rng).split(size):
                target = net.law(obs[rows])
                old = target.logp(act[rows])
                with torch.enable_grad():
                    law = net.law(obs[rows], weights=weights)
                    now = law.logp(act[rows])
                    if maths.k3(old, now.detach()).mean() > part.limit:
                        return
                    g = (now - old).exp()
                    loss = (g.clamp(min=1 - part.clip) + part.kl * target.kl(law)).mean()
                    self.phi.step(self.phi.gradient(loss), part.lr, NORM, eps=1e-5)

    def learn(self, window: Batch) -> None:
        self.past.append((window.obs[window.valid], window.act[window.valid]))

    def state_dict(self) -> dict[str, Tensor]:
        past = {f"{i}/{name}": x for i, D in enumerate(self.past) for name, x in zip(("obs", "act"), D, strict=True)}
        return {**self.phi.state_dict(), **past}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.phi.load_state_dict(state)
        self.past.extend((state[f"{i}/obs"], state[f"{i}/act"]) for i in range(sum("/obs" in key for key in state)))


@dataclass(frozen=True)
class Retained:
    """Learn from this round and the `buffer` - 1 rounds before."""

    buffer: int

    def begin(self, run: Any) -> LiveRounds:
        return LiveRounds(self.buffer)


class LiveRounds:
    def __init__(self, buffer: int):
        self.past: deque[Batch] = deque(maxlen=buffer - 1)

    def __call__(self, window: Batch) -> list[Batch]:
        for earlier in self.past:
            earlier.rng = window.rng
        return [*self.past, window]

    def learn(self, window: Batch) -> None:
        self.past.append(window)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for i, window in enumerate(self.past):
            tensors = {name: x for name, x in vars(window).items() if torch.is_tensor(x)}
            columns = {f"columns/{name}": x for name, x in window.columns.items()}
            state |= {f"{i}/{name}": x for name, x in {**tensors, **columns, "sets": window.sets}.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        from frugal.control.batch import Batch

        for i in range(sum(key.endswith("/sets") for key in state)):
            mine = {key.removeprefix(f"{i}/"): x for key, x in state.items() if key.startswith(f"{i}/")}
            columns = {name.removeprefix("columns/"): x for name, x in mine.items() if name.startswith("columns/")}
            fields = {name: x for name, x in mine.items() if not name.startswith("columns/")}
            self.past.append(Batch(**fields, columns=columns))


@patch
def props(
    every: int = 16,
    epochs: int = 16,
    minibatches: int = 4,
    lr: float = 1e-3,
    clip: float = 0.3,
    kl: float = 0.1,
    limit: float = 0.01,
    buffer: int = 2,
) -> Patch:
    """Collect with a policy that catches up on actions taken too seldom, and learn from the last `buffer` rounds."""
    if min(every, minibatches, buffer) < 1 or epochs < 0 or not 0 <= clip <= 1:
        raise BadRecipe("props: give every, minibatches and buffer of at least 1, epochs >= 0 and 0 <= clip <= 1")
    behaviour = Undersampled(every, epochs, minibatches, lr, clip, kl, limit, buffer)
    return Patch(
        fill={"act.behaviour": behaviour, "update.keep": Retained(buffer)},
        never_with={"stream-x": "it forgets every step at once, so that there are no data to make up for"},
        domain="control",
    )
