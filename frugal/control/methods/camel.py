"""The agent acts in a box around what a crude rule suggests, and is let out of it as training goes on.

Changes      learn.policy: a = (high + low) / 2 + u (high - low) / 2, u in [-1, 1] being the inner policy's action and
             low, high = clip(g(s) -+ width, -1, 1) around the rule's action g(s) where s is masked, -1 and 1 elsewhere
             act.explore: the inner exploration, clipped to low and high
             s is masked with probability max(0, 1 - progress / share)
Source       CAMEL: Continuous Action Masking Enabled by Large Language Models for Reinforcement Learning, Zhao et al.
             2025, arXiv 2502.11896: dynamic action masks, masking-aware TD3, epsilon-masking
Ours         the rule is any function; no language model writes it here. width=0.5 and share=0.5, in lack of released
             code. Whether s is masked is decided by a number that its observation determines: collecting, the target,
             the actor's loss and evaluation then agree, and nothing is stored beside a transition. With `sac` the
             density is that of the mapped action. Warm-up is uniform over all actions, as without it.
Leans on     the off-policy loop and continuous actions (`td3`, `sac`)
Experiment   experiments/control/camel.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.core.text import from_file
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

BASE, TASK = "td3", "Pendulum-v1"  # that it is tested on
NEUTRAL = {"share": 0.0}
RULES: dict[str, Callable[[Tensor], Tensor]] = {  # obs [B,O] -> a [B,1], for every action dimension
    "rest": lambda obs: torch.zeros(len(obs), 1),
    "pump": lambda obs: obs[:, -1:].sign(),  # with the velocity, in MountainCarContinuous and Pendulum
    "brake": lambda obs: -obs[:, -1:].sign(),
}


@dataclass(frozen=True)
class Box:
    """Bounds of the actions."""

    rule: str
    width: float
    share: float

    def begin(self, run: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        if run.spaces.pixels or not run.spaces.continuous:
            raise BadTask("camel keeps continuous actions near what a rule makes of a vector; take another environment")
        rule = RULES[self.rule] if self.rule in RULES else from_file(self.rule)
        O, A = run.spaces.shape[0], run.spaces.actions

        def bounds(obs: Tensor) -> tuple[Tensor, Tensor]:
            """obs [B,O] -> low [B,A], high [B,A]"""
            try:
                g = torch.as_tensor(rule(obs)).float().expand(len(obs), A).clamp(-1, 1)
            except Exception as error:
                raise BadTask(
                    f"camel's rule {self.rule!r} fails: {error}; it is called with observations [B,{O}] and gives "
                    f"actions [B,{A}] in [-1, 1]"
                ) from error
            masked = (number(obs) < self.epsilon(run.progress))[:, None]
            low, high = (g - self.width).clamp(min=-1), (g + self.width).clamp(max=1)
            return torch.where(masked, low, -1.0), torch.where(masked, high, 1.0)

        return bounds

    def epsilon(self, progress: float) -> float:
        return max(0.0, 1 - progress / self.share) if self.share else 0.0


def number(obs: Tensor) -> Tensor:
    """A number in [0, 1) for each row, as if drawn by its bits: a linear hash and one round of mixing. [B,O] -> [B]"""
    bits = obs.contiguous().view(torch.int32).long()
    h = (bits * (0x9E3779B97F4A7C1 * torch.arange(1, obs.shape[1] + 1) | 1)).sum(1)  # modulo 2^64
    h = (h ^ (h >> 32)) * 0x2545F4914F6CDD1D
    return ((h >> 33) & 0x7FFFFFFF).double() / 2**31


@dataclass
class Boxed:
    """The law of a = (high + low) / 2 + u (high - low) / 2, u by the inner law. low, high [B,A]"""

    inner: Any
    low: Tensor
    high: Tensor

    @property
    def mode(self) -> Tensor:
        return self._place(self.inner.mode)

    def sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        u, logp = self.inner.sample(rng)
        return self._place(u), None if logp is None else logp - ((self.high - self.low) / 2).log().sum(1)

    def _place(self, u: Tensor) -> Tensor:
        return (self.high + self.low) / 2 + u * ((self.high - self.low) / 2)


@dataclass(frozen=True)
class BoxedPolicy:
    """The inner policy, mapped into the box, so that the actor's gradient goes through the mapping."""

    box: Box
    inner: Any = None

    def parameters(self, *given: Any) -> dict[str, Tensor]:
        return self.inner.parameters(*given)  # type: ignore[no-any-return]

    def begin(self, run: Any) -> Callable[..., Boxed]:
        bounds = self.box.begin(run)
        return lambda net, weights, z, obs: Boxed(self.inner(net, weights, z, obs), *bounds(obs))


@dataclass(frozen=True)
class BoxedExploration:
    """The inner exploration, clipped to the box."""

    box: Box
    inner: Any = None

    def begin(self, run: Any) -> Callable[..., Tensor]:
        bounds = self.box.begin(run)
        return lambda a, obs, role, rng: self.inner(a, obs, role, rng).clamp(*bounds(obs))


@patch
def camel(rule: str = "rest", width: float = 0.5, share: float = 0.5) -> Patch:
    """Keep actions within `width` of a rule's at first, and at no state any more after `share` of the budget.

    `rule` is rest (the middle of the range), pump or brake (with or against the last coordinate of the observation), or
    file.py:function, which is called with observations [B,O] and gives actions [B,A] in [-1, 1].
    """
    if rule not in RULES:
        from_file(rule)
    if width <= 0 or share < 0:
        raise BadRecipe(f"camel(width={width}, share={share}): give width > 0 and share >= 0")
    box = Box(rule, width, share)
    return Patch(wrap={"learn.policy": BoxedPolicy(box), "act.explore": BoxedExploration(box)}, domain="control")
