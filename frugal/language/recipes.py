"""The base recipes of the language loop. Each fills every part; extra keywords are settings (`frugal show grpo`)."""

from __future__ import annotations

from typing import Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, base

from .parts import (
    Causal,
    Clip,
    ClippedWeight,
    Critic,
    Demonstrations,
    FromProblem,
    GroupRelative,
    KLReward,
    KLTerm,
    LeaveOneOut,
    Likelihood,
    LogProbability,
    Overlong,
    PPOClip,
    Return,
    Spread,
    Verified,
    Whole,
)
from .slots import LANGUAGE

GROUPED = ("compares a group's rewards",)
PLAIN = {
    "start.state": FromProblem(),
    "act.collect": Whole(),
    "credit.score": Verified(),
    "learn.policy": Causal(),
}


def _kl(beta: float, path: str, part: type) -> dict[str, Any]:
    if beta < 0:
        raise BadRecipe(f"beta={beta}; give 0 (no reference model) or more")
    return {path: part(beta)} if beta else {}


def _on_policy(advantage: Any, beta: float, settings: dict[str, Any], gives: tuple[str, ...] = ()) -> Patch:
    """REINFORCE with some advantage: the sum over tokens of -A log pi, divided by a constant."""
    return Patch(
        fill=PLAIN
        | {"credit.advantage": advantage, "learn.clip": Clip(1.0, float("inf")), "learn.surrogate": LogProbability()},
        add=_kl(beta, "credit.rewards.kl", KLReward),
        set={"mean": "constant"} | settings,
        silences=("learn.clip", "unit", "epochs", "minibatches"),
        gives=gives,
    )


@base(LANGUAGE)
def grpo(clip: float = 0.2, beta: float = 0.0, **settings: Any) -> Patch:
    """Group relative policy optimisation: Shao et al. 2024, arXiv 2402.03300, eq. 3 and 4."""
    return Patch(
        fill=PLAIN
        | {"credit.advantage": GroupRelative(), "learn.clip": Clip(clip, clip), "learn.surrogate": PPOClip()},
        add=_kl(beta, "learn.terms.kl", KLTerm),
        set=settings,
        gives=GROUPED,
    )


@base(LANGUAGE)
def dr_grpo(clip: float = 0.2, beta: float = 0.0, **settings: Any) -> Patch:
    """GRPO without its two normalisations, by spread and by length: Liu et al. 2025, arXiv 2503.20783, section 3.2."""
    return Patch(
        fill=PLAIN
        | {
            "credit.advantage": GroupRelative(scale="none"),
            "learn.clip": Clip(clip, clip),
            "learn.surrogate": PPOClip(),
        },
        add=_kl(beta, "learn.terms.kl", KLTerm),
        set={"mean": "constant"} | settings,
        gives=GROUPED,
    )


@base(LANGUAGE)
def dapo(low: float = 0.2, high: float = 0.28, overlong: float = 0.2, **settings: Any) -> Patch:
    """Clip-higher, dynamic sampling, token mean, soft overlong penalty: Yu et al. 2025, arXiv 2503.14476, section 3.

    `overlong` is the share of the allowed length over which the penalty grows; 0 switches it off.
    """
    return Patch(
        fill=PLAIN | {"credit.advantage": GroupRelative(), "learn.clip": Clip(low, high), "learn.surrogate": PPOClip()},
        add={"start.keep.spread": Spread(), **({"credit.rewards.overlong": Overlong(overlong)} if overlong else {})},
        set={"mean": "token"} | settings,
        rejects=("all-wrong", "all-right"),
        gives=GROUPED,
    )


@base(LANGUAGE)
def gspo(low: float = 3e-4, high: float = 4e-4, beta: float = 0.0, **settings: Any) -> Patch:
    """The ratio and its clipping by rollout: Zheng et al. 2025, arXiv 2507.18071, eq. 5 to 7."""
    return Patch(
        fill=PLAIN | {"credit.advantage": GroupRelative(), "learn.clip": Clip(low, high), "learn.surrogate": PPOClip()},
        add=_kl(beta, "learn.terms.kl", KLTerm),
        set={"unit": "rollout"} | settings,
        gives=GROUPED,
    )


@base(LANGUAGE)
def cispo(high: float = 4.0, **settings: Any) -> Patch:
    """Clipped importance weights instead of clipped updates: MiniMax 2025, arXiv 2506.13585, eq. 4 and 5.

    Ours: high = 4, so weights up to 5; the paper tunes it and gives no value.
    """
    return Patch(
        fill=PLAIN
        | {"credit.advantage": GroupRelative(), "learn.clip": Clip(1.0, high), "learn.surrogate": ClippedWeight()},
        set={"mean": "token"} | settings,
        gives=GROUPED,
    )


@base(LANGUAGE)
def rloo(beta: float = 0.0, **settings: Any) -> Patch:
    """REINFORCE with the other rollouts of the group as baseline: Ahmadian et al. 2024, arXiv 2402.14740, eq. 8.

    The loss sums over a response's tokens (divided by a constant). On-policy: one step a round.
    """
    return _on_policy(LeaveOneOut(), beta, settings, GROUPED)


@base(LANGUAGE)
def reinforce(beta: float = 0.0, **settings: Any) -> Patch:
    """The policy gradient with whole returns and no baseline: Williams 1992. On-policy: one step a round."""
    return _on_policy(Return(), beta, settings)


@base(LANGUAGE)
def frugal_language(beta: float = 0.0, **settings: Any) -> Patch:
    """REINFORCE on small rounds of one response a prompt: ahead of what else was tried on `modchain` and `addtrace`.

    `reinforce(group=1)`; where rewards are 0 and 1 it learns from successes alone. docs/log.md says what it saves, and
    where it saves nothing, on tasks that had no part in the choice.
    """
    return _on_policy(Return(), beta, {"group": 1} | settings, ())


@base(LANGUAGE)
def ppo(
    clip: float = 0.2,
    beta: float = 0.0,
    gamma: float = 1.0,
    lam: float = 0.95,
    critic_lr: float = 3e-4,
    **settings: Any,
) -> Patch:
    """Proximal policy optimisation with a critic and GAE: Schulman et al. 2017, arXiv 1707.06347; beta as in RLHF.

    Ours: a critic of the policy's own size and start weights, whose head starts at zero.
    """
    return Patch(
        fill=PLAIN
        | {
            "credit.advantage": Critic(gamma, lam, critic_lr),
            "learn.clip": Clip(clip, clip),
            "learn.surrogate": PPOClip(),
        },
        add=_kl(beta, "credit.rewards.kl", KLReward),
        set={"group": 1, "prompts": 128, "epochs": 2, "mean": "token"} | settings,
    )


@base(LANGUAGE)
def sft(**settings: Any) -> Patch:
    """Supervised fine-tuning: imitate the task's demonstrations. One sample is one demonstration."""
    return Patch(
        fill=PLAIN
        | {
            "act.collect": Demonstrations(),
            "credit.advantage": Return(),
            "learn.clip": Clip(1.0, float("inf")),
            "learn.surrogate": Likelihood(),
        },
        set={"group": 1, "prompts": 128, "mean": "token"} | settings,
        silences=(
            "start.extra",
            "start.keep",
            "act.temperature",
            "credit",
            "learn.clip",
            "group",
            "temperature",
            "unit",
            "old",  # a demonstration was not sampled, so that nobody has seen its distribution
        ),
    )
