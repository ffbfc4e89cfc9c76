"""The places of the language loop, in the order in which data flows, and its settings. Imports no torch.

Axes: N problems of the pool, G groups, B rows of a round, b rows of a minibatch, T response positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frugal.core.recipe import Domain, Many, One
from frugal.core.settings import Settings as Numbers

SLOTS: dict[str, One | Many] = {
    # start: what an episode begins from
    "start.pick": Many("sum", "(pool[N] of problems) -> log-weights[N]; drawn without replacement"),
    "start.state": One("(problem, rng) -> Start(prompt, prefix)"),
    "start.extra": Many(
        "union", "(rows[B], k) -> Extra(asks, ready rows, drop[B]); k counts the times asked this round"
    ),
    "start.keep": Many("all", "(score[B], rows[B]) -> bool[G]; rejected groups are charged and refilled"),
    # act: how tokens are chosen while collecting
    "act.temperature": Many("product", "(logits[B,V], t) -> factor on the temperature, scalar or [B]"),
    "act.collect": One("(asks, sampler, rng) -> rows[B] of as many groups, or None where it wants more asks first"),
    # credit: what an outcome is worth
    "credit.score": One("(rows[B], sampler) -> rows, each with a score"),
    "credit.rewards": Many("sum", "(rows) -> r[B,T], beside the task's score"),
    "credit.advantage": One("(r[B,T], rows) -> A[B,T]"),
    "credit.bonus": Many("sum", "(rows) -> A'[B,T], added to the advantage"),
    "credit.weights": Many("product", "(A[B,T], rows) -> w[B,T], once a round"),
    # learn: which objective is optimised, with which network
    "learn.policy": One("(model, tokenizer) -> Policy"),
    "learn.clip": One("(ratio[b,T], A[b,T], use[b,T]) -> low[b,T], high[b,T]; of the whole minibatch"),
    "learn.surrogate": One("(now, ratio[b,T], A[b,T], (low, high), mini) -> loss[b,T]"),
    "learn.step_weights": Many("product", "(now, mini) -> w[b,T] on the loss, at every step"),
    "learn.terms": Many("sum", "(now, mini) -> loss[b,T], averaged as the surrogate is"),
    # update: on which samples and tokens
    "update.select": Many("all", "(A[B,T], rows) -> bool[B,T], once a round"),
    "update.mask": Many("all", "(now, mini) -> bool[b,T], at every step"),
    "update.replay": Many("union", "(rows) -> older rows with their own A and old"),
}

UNITS = ("token", "turn", "rollout")
MEANS = ("token", "rollout", "constant")


@dataclass(frozen=True)
class Settings(Numbers):
    """Numbers of the loop. Any number may be a schedule over the run, such as ``linear(1e-4, 0)``."""

    counts = ("prompts", "group", "max_tokens", "epochs", "minibatches")
    may_be_zero = ("weight_decay", "lr")
    may_be_none = ("max_tokens", "lr")
    words = {"unit": UNITS, "mean": MEANS}

    prompts: Any = 16  # groups a round
    group: Any = 8  # rollouts a group, G
    max_tokens: Any = None  # of a response; 0.5: half of what the task asks for (1 is one token, 1.0 or None all of it)
    temperature: Any = 1.0  # of the policy itself: in every log-probability
    epochs: Any = 1  # passes over a round
    minibatches: Any = 1  # optimiser steps a pass
    lr: Any = None  # None: 4e-4 below ten million parameters, else 1e-5
    weight_decay: Any = 0.0
    max_grad_norm: Any = 1.0
    unit: str = "token"  # of the ratio: token, turn, rollout
    mean: str = "rollout"  # of the loss: over tokens, over rollouts' token means, or by a constant


LANGUAGE = Domain("language", SLOTS, Settings)
