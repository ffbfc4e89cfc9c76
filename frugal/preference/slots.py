"""The places of the preference loop, in the order in which data flows, and its settings. Imports no torch.

Which loop a base takes. Whatever learns from two responses beside each other fills the preference loop: `dpo` takes
the pairs of the data, `online-dpo` the policy's own samples, labelled by an oracle, `reward-model` has a scalar head
and no reference. Whatever learns from single responses that a reward model scores fills the language loop: `rlhf` is
its ppo or grpo with a reward model in ``credit.score``, so that methods of the language domain go on it too. Runs of
both, and stages of either, go through one `main`, with the same tasks and the same evaluation.

Axes: N problems of the pool, P prompts of a round, M responses to a prompt, B rows of a round, b rows of a minibatch,
n pairs, T response positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from frugal.core.recipe import Domain, Many, One
from frugal.core.settings import Settings as Numbers
from frugal.language.slots import LANGUAGE

SLOTS: dict[str, One | Many] = {
    # start: which prompts
    "start.prompts": One("(pool[N] of problems, how many, rng) -> problems[P]"),
    # act: which responses, drawn by whom
    "act.answers": One("(asks[P], sampler, rng) -> rows[B]; rows that come with a label have it as their score"),
    "act.choose": One("(rows[B], rng) -> those that may be compared"),
    # credit: who wins
    "credit.label": One("(rows[B], ask) -> pairs[n]; ask(rows, a[n], b[n]) -> y[n], NaN where there is no answer"),
    # learn: which loss on pairs, against what
    "learn.policy": One("(model, tokenizer) -> Policy or RewardNet"),
    "learn.reference": One("(rows[b]) -> log-probabilities[b,T]"),
    "learn.score": One("(log-ratio[b,T], rows[b]) -> z[b]"),
    "learn.loss": One("(z_a[n], z_b[n], mini) -> loss[n]"),
    "learn.terms": Many("sum", "(now, mini) -> loss[n], beside the loss of the pairs"),
    # update: on which pairs
    "update.memory": One("(pairs[n] of this round) -> pairs to learn from now"),
}


@dataclass(frozen=True)
class Settings(Numbers):
    """Numbers of the loop. Any number may be a schedule over the run, such as ``linear(1e-4, 0)``."""

    counts = ("prompts", "group", "max_tokens", "epochs", "minibatches")
    may_be_zero = ("weight_decay", "lr")
    may_be_none = ("max_tokens", "lr")

    prompts: Any = 32  # a round
    group: Any = 2  # responses a prompt, M
    max_tokens: Any = None  # of a response; None: what the task asks for
    temperature: Any = 1.0  # of the policy itself: in every log-probability
    epochs: Any = 1  # passes over a round
    minibatches: Any = 1  # optimiser steps a pass
    lr: Any = None  # None: 4e-4 below ten million parameters, else 1e-5
    weight_decay: Any = 0.0
    max_grad_norm: Any = 1.0


PAIRS = Domain(
    "preference",
    SLOTS,
    Settings,
    loop="pairs",
    elsewhere=frozenset(LANGUAGE.slots) - frozenset(SLOTS),
    checked=(),  # the loop itself refuses a loss that is no number
    family="language",
    base="online-dpo",
    unit="labels",
    metric="win",
    title="held-out win rate against the start",
    instead="accuracy",
    progress="accuracy",
    spends=("labels", "abstentions", "completions", "gradient_steps"),
)
REWARD = replace(PAIRS, metric="accuracy", title="held-out label accuracy")  # it writes nothing that could win
ROLLOUTS = replace(
    PAIRS,
    slots=LANGUAGE.slots,
    settings=LANGUAGE.settings,
    loop="rollouts",
    elsewhere=frozenset(SLOTS) - frozenset(LANGUAGE.slots),
    checked=LANGUAGE.checked,
    takes=("language",),
    base="rlhf",
    unit="completions",
    progress="score",
    spends=("labels", "tokens", "gradient_steps"),
)
