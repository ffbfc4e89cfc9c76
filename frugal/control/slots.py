"""The places of the two control loops, in the order in which data flows, and their settings. Imports no torch.

Axes: N environments, T steps of a round, B rows of a minibatch, n steps ahead (1 as a rule), K critics, A action
dimensions, O observation, D features, C task parameters, G sets of weights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from frugal.core.recipe import Domain, Many, One
from frugal.core.settings import Settings as Numbers

SHARED: dict[str, One | Many] = {
    # start: what an episode begins from
    "start.reset": Many(
        "union",
        "(Ended(rows[E], task[E,C], ret[E], length[E])) -> {task: E of [C] or None, state: E snapshots or None, "
        "limit: [E] steps}",
    ),
    # act: how actions are chosen
    "act.deploy": One("(net, obs[N,O]) -> a[N,A]: how the policy acts in evaluation and in use"),
    # credit: what an outcome is worth
    "credit.rewards": Many("sum", "(batch) -> r[B,n] or [N,T]; the entry `task` is the environment's own"),
    # learn: which objective is optimised, with which networks
    "learn.encoder": One("(weights, obs[B,O]) -> z[B,D]; field view: (obs) -> obs while learning"),
    "learn.policy": One("(weights, z[B,D], obs[B,O]) -> law of actions"),
    "learn.critic": One("(weights, z[B,D], a[B,A]) -> q[K,B], or on-policy (weights, z[B,D]) -> v[B]"),
    "learn.terms": Many("sum", "(net, batch) -> loss[B], on the critic's pass; on-policy (out, rows) on the only one"),
}
OFF_ONLY: dict[str, One | Many] = {
    "act.explore": One("(a[B,A], obs[B,O], role) -> a[B,A]; role is collect or target"),
    "credit.value": One("(q[K,B], logp[B] or None, net) -> v[B] of the action that follows"),
    "learn.actor": One("(net, batch) -> loss[B], once in `every` updates of the critic (0: never)"),
    "update.draw": One("(store, B, rng) -> rows[B], weight[B] of the loss or None"),
    "update.ratio": One("(samples before, samples after) -> updates to do now"),
}
ON_ONLY: dict[str, One | Many] = {
    "act.behaviour": One("(net, steps so far) -> G sets of weights that collect; row n acts by set n % G"),
    "credit.advantage": One("(r[N,T], v[N,T], v_next[N,T], window) -> A[N,T], target[N,T]"),
    "learn.surrogate": One("(logp[B], old[B], A[B]) -> loss[B]"),
    "update.keep": One("(window) -> windows to learn from"),
    "update.step": One("(net, loss, rows) -> norm of the gradient; loss is (weights, rows) -> scalar"),
}


@dataclass(frozen=True)
class Off(Numbers):
    """Numbers of the off-policy loop. Any may be a schedule over the run, such as ``linear(1e-3, 0)``."""

    counts = ("batch", "warmup", "n", "track", "capacity", "envs")
    may_be_zero = ("lr", "warmup")

    envs: Any = 1  # environments that step together, N
    gamma: Any = 0.99  # discount
    n: Any = 1  # steps of reward before the bootstrap
    lr: Any = 3e-4
    batch: Any = 256
    capacity: Any = 1_000_000  # transitions of the replay buffer
    warmup: Any = 100  # samples with uniform actions before the first update
    tau: Any = 0.005  # of the target networks: target <- (1 - tau) target + tau now
    track: Any = 1  # updates between two of those
    max_grad_norm: Any = float("inf")


@dataclass(frozen=True)
class On(Numbers):
    """Numbers of the on-policy loop. Any may be a schedule over the run, such as ``linear(3e-4, 0)``."""

    counts = ("envs", "steps", "epochs", "batch")
    may_be_zero = ("lr", "steps", "value", "entropy")
    may_be_none = ("batch",)
    words = {"whiten": (True, False)}

    envs: Any = 1  # environments that step together, N
    steps: Any = 2048  # of each environment a round; 0: one whole episode, which the end of the budget cuts
    gamma: Any = 0.99  # discount
    lr: Any = 3e-4
    epochs: Any = 10  # passes over a round
    batch: Any = 64  # rows of an optimiser step; None: the whole round
    value: Any = 0.5  # weight of the critic's loss
    entropy: Any = 0.0  # weight of the entropy bonus
    max_grad_norm: Any = 0.5
    whiten: bool = True  # advantages of a minibatch to mean 0 and spread 1


def _domain(
    loop: str, own: dict[str, One | Many], settings: type[Numbers], other: dict[str, One | Many], others: type[Numbers]
) -> Domain:
    names, others_names = ({f.name for f in fields(x)} for x in (settings, others))
    questions = ("start", "act", "credit", "learn", "update")
    slots = dict(sorted({**SHARED, **own}.items(), key=lambda item: questions.index(item[0].split(".")[0])))
    return Domain(
        "control",
        slots,
        settings,
        loop=loop,
        elsewhere=frozenset({*other, *(others_names - names)}),
        checked=(),
        base="sac",
        unit="environment steps",
        metric="return",
        title="return in evaluation",
        tested="evaluation",
        progress="return",
        spends=("gradient_steps", "episodes"),
        files=("curve.jsonl", "model/"),
        smoke=2000,
    )


OFF = _domain("off-policy", OFF_ONLY, Off, ON_ONLY, On)
ON = _domain("on-policy", ON_ONLY, On, OFF_ONLY, Off)
