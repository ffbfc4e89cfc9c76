"""The base recipes of the control loops. Each fills every part; extra keywords are settings (`frugal show sac`).

`hidden` are the widths of all networks; `normalise` is of observations, by what was seen while collecting; `shift` is
by how many pixels pictures are moved at random while learning; `ratio` are updates a sample, after `every` samples.
"""

from __future__ import annotations

from typing import Any

from frugal.core.recipe import Patch, base

from .approximators import (
    ActionValues,
    Encoder,
    Ensemble,
    Greedy,
    NoBaseline,
    Shift,
    SquashedGaussian,
    Stochastic,
    TanhMean,
    Value,
)
from .parts import (
    GAE,
    Adam,
    Ascend,
    AsDrawn,
    Current,
    EnvironmentReward,
    EpsilonGreedy,
    Least,
    LogProbability,
    Mode,
    Newest,
    NoActor,
    Noise,
    PPOClip,
    Prioritised,
    Ratio,
    RMSProp,
    SoftActor,
    SoftLeast,
    Uniform,
)
from .slots import OFF, ON

TASK = {"credit.rewards.task": EnvironmentReward()}


def _off(
    fill: dict[str, Any], ratio: float, every: int, normalise: bool, shift: int, settings: dict[str, Any]
) -> Patch:
    plain = {
        "act.deploy": Mode(),
        "act.explore": AsDrawn(),
        "credit.value": Least(),
        "learn.encoder": Encoder(normalise, view=Shift(shift) if shift else None),
        "update.draw": Uniform(),
        "update.ratio": Ratio(ratio, every),
    }
    return Patch(fill=plain | fill, add=TASK, set=settings)


def _on(fill: dict[str, Any], normalise: bool, settings: dict[str, Any], silences: tuple[str, ...] = ()) -> Patch:
    plain = {
        "act.deploy": Mode(),
        "act.behaviour": Current(),
        "learn.encoder": Encoder(normalise),
        "update.keep": Newest(),
        "update.step": Adam(),
    }
    return Patch(fill=plain | fill, add=TASK, set=settings, silences=silences)


@base(OFF)
def dqn(
    hidden: tuple[int, ...] = (64, 64),
    double: bool = True,
    duelling: bool = False,
    prioritised: bool = False,
    epsilon: tuple[float, float, float] = (1.0, 0.05, 0.1),
    ratio: float = 0.25,
    every: int = 4,
    normalise: bool = False,
    shift: int = 0,
    **settings: Any,
) -> Patch:
    """Deep Q-learning: Mnih et al. 2015; `n`-step targets by the setting, its other parts by arguments.

    `epsilon` is start, end and the share of the budget between them.
    """
    fill = {
        "act.explore": EpsilonGreedy(*epsilon),
        "learn.policy": Greedy(double),
        "learn.critic": ActionValues(hidden, duelling),
        "learn.actor": NoActor(),
        "update.draw": Prioritised() if prioritised else Uniform(),
    }
    defaults = {"lr": 5e-4, "batch": 64, "warmup": 1000, "tau": 1.0, "track": 250, "max_grad_norm": 10.0}
    return _off(fill, ratio, every, normalise, shift, defaults | settings)


@base(OFF)
def td3(
    hidden: tuple[int, ...] = (256, 256),
    noise: float = 0.1,
    target_noise: float = 0.2,
    noise_clip: float = 0.5,
    delay: int = 2,
    ratio: float = 1.0,
    every: int = 1,
    normalise: bool = False,
    shift: int = 0,
    **settings: Any,
) -> Patch:
    """Twin delayed deterministic policy gradient: Fujimoto et al. 2018, arXiv 1802.09477, algorithm 1."""
    fill = {
        "act.explore": Noise(noise, target_noise, noise_clip),
        "learn.policy": TanhMean(hidden),
        "learn.critic": Ensemble(hidden, members=2, scale=1.0),
        "learn.actor": Ascend(delay),
    }
    return _off(fill, ratio, every, normalise, shift, {"lr": 1e-3, "track": delay} | settings)


@base(OFF)
def sac(
    hidden: tuple[int, ...] = (256, 256),
    alpha: float = 1.0,
    ratio: float = 1.0,
    every: int = 1,
    normalise: bool = False,
    shift: int = 0,
    **settings: Any,
) -> Patch:
    """Soft actor-critic with a learned temperature: Haarnoja et al. 2018, arXiv 1812.05905."""
    fill = {
        "credit.value": SoftLeast(),
        "learn.policy": SquashedGaussian(hidden),
        "learn.critic": Ensemble(hidden, members=2, scale=0.5),
        "learn.actor": SoftActor(alpha),
    }
    return _off(fill, ratio, every, normalise, shift, settings)


@base(ON, name="control.reinforce")
def reinforce(
    hidden: tuple[int, ...] = (64, 64), baseline: bool = False, normalise: bool = False, **settings: Any
) -> Patch:
    """The policy gradient with rewards to go, on one whole episode of each environment a round: Williams 1992.

    With `baseline` a value network is subtracted.
    """
    fill = {
        "credit.advantage": GAE(1.0),
        "learn.policy": Stochastic(hidden),
        "learn.critic": Value(hidden) if baseline else NoBaseline(),
        "learn.surrogate": LogProbability(),
    }
    defaults = {"steps": 0, "epochs": 1, "batch": None, "lr": 3e-3, "whiten": False}
    return _on(fill, normalise, defaults | settings, () if baseline else ("value",))


@base(ON)
def a2c(hidden: tuple[int, ...] = (64, 64), lam: float = 1.0, normalise: bool = False, **settings: Any) -> Patch:
    """Advantage actor-critic: Mnih et al. 2016, arXiv 1602.01783, with environments that step together."""
    fill = {
        "credit.advantage": GAE(lam),
        "learn.policy": Stochastic(hidden),
        "learn.critic": Value(hidden),
        "learn.surrogate": LogProbability(),
        "update.step": RMSProp(),
    }
    defaults = {"steps": 5, "epochs": 1, "batch": None, "lr": 7e-4, "whiten": False}
    return _on(fill, normalise, defaults | settings)


@base(ON, name="control.ppo")
def ppo(
    hidden: tuple[int, ...] = (64, 64),
    clip: float = 0.2,
    lam: float = 0.95,
    normalise: bool = False,
    **settings: Any,
) -> Patch:
    """Proximal policy optimisation: Schulman et al. 2017, arXiv 1707.06347."""
    fill = {
        "credit.advantage": GAE(lam),
        "learn.policy": Stochastic(hidden),
        "learn.critic": Value(hidden),
        "learn.surrogate": PPOClip(clip),
    }
    return _on(fill, normalise, settings)
