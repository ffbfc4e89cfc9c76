"""The base recipes of the preference domain. Each fills every part; extra keywords are settings (`frugal show dpo`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from frugal.core.errors import BadRecipe, UnknownName
from frugal.core.recipe import Patch, base
from frugal.language.parts import Causal
from frugal.language.recipes import grpo, ppo

from .parts import (
    Both,
    EachPair,
    Everyone,
    FromData,
    FromPolicy,
    Hinge,
    InPasses,
    Learned,
    Logistic,
    Mean,
    NoReference,
    OtherModel,
    Prospect,
    Ready,
    ScalarHead,
    Squared,
    StartModel,
    Sum,
    ThisRound,
)
from .slots import PAIRS, REWARD, ROLLOUTS

LOSSES = {"sigmoid": Logistic, "ipo": Squared, "hinge": Hinge, "kto": Prospect}
SCORES = {"sum": Sum, "mean": Mean}
PLAIN = {
    "start.prompts": InPasses(),
    "act.choose": Everyone(),
    "credit.label": EachPair(),
    "update.memory": ThisRound(),
}
BASELINES = {"critic": ppo, "group": grpo}
DEAD = {FromData: ("act.choose", "group", "old"), Both: ("old",), FromPolicy: ()}  # given text has no `old`


def _direct(answers: Any, beta: float, loss: str, score: str, reference: str | None, settings: dict[str, Any]) -> Patch:
    """The policy's own log-ratio as the reward of a response."""
    if beta <= 0:
        raise BadRecipe(f"beta={beta}; give a number above 0")
    for kind, name, known in (("loss", loss, LOSSES), ("score", score, SCORES)):
        if name not in known:
            raise UnknownName(kind, name, known)
    return Patch(
        fill=PLAIN
        | {
            "act.answers": answers,
            "learn.policy": Causal(),
            "learn.reference": OtherModel(reference) if reference else StartModel(),
            "learn.score": SCORES[score](),
            "learn.loss": LOSSES[loss](beta),
        },
        set=settings,
        gives=("compares log-ratios", *([] if isinstance(answers, FromData) else ["compares its own samples"])),
        silences=DEAD[type(answers)],
    )


@base(PAIRS)
def dpo(
    beta: float = 0.1, loss: str = "sigmoid", score: str = "sum", reference: str | None = None, **settings: Any
) -> Patch:
    """Direct preference optimisation on the pairs of the data: Rafailov et al. 2023, arXiv 2305.18290, eq. 7.

    `loss` is sigmoid, ipo, hinge or kto; `score` is the log-ratio's sum over a response or (TRL's IPO) its mean;
    `reference` is a folder or hub name, by default the model that the run starts from.
    """
    return _direct(FromData(), beta, loss, score, reference, settings)


@base(PAIRS)
def online_dpo(
    beta: float = 0.1,
    loss: str = "sigmoid",
    score: str = "sum",
    reference: str | None = None,
    data: bool = False,
    **settings: Any,
) -> Patch:
    """DPO on the policy's own samples, labelled by an oracle: Guo et al. 2024, arXiv 2402.04792, algorithm 1.

    With `data` the pair that the data have for each prompt is learnt from too.
    """
    return _direct(Both() if data else FromPolicy(), beta, loss, score, reference, settings)


@base(REWARD)
def reward_model(**settings: Any) -> Patch:
    """A Bradley-Terry reward model, fitted to the pairs of the data: Ouyang et al. 2022, arXiv 2203.02155, eq. 1."""
    return Patch(
        fill=PLAIN
        | {
            "act.answers": FromData(),
            "learn.policy": ScalarHead(),
            "learn.reference": NoReference(),
            "learn.score": Sum(),
            "learn.loss": Logistic(1.0),
        },
        set=settings,
        silences=(*DEAD[FromData], "temperature"),
    )


@base(ROLLOUTS)
def rlhf(
    reward: str | None = None,
    labels: int = 1024,
    beta: float = 0.05,
    baseline: str = "critic",
    clip: float = 0.2,
    **settings: Any,
) -> Patch:
    """PPO against a reward model: Ouyang et al. 2022, arXiv 2203.02155, section 3.5.

    `reward` is the folder of a reward model or ``file.py:function``; without it one is fitted on the first `labels`
    pairs of the data. `baseline` is PPO's critic, or (GRPO's) the group; beta as in either.
    """
    if baseline not in BASELINES:
        raise UnknownName("baseline", baseline, BASELINES)
    plain = BASELINES[baseline].__wrapped__(clip=clip, beta=beta, **settings)  # type: ignore[attr-defined]
    score = Ready(reward) if reward else Learned(labels)
    return dataclasses.replace(plain, fill={**plain.fill, "credit.score": score})  # type: ignore[no-any-return]
