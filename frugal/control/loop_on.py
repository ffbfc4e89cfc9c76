"""The on-policy loop: start, act, credit, learn, update, read from top to bottom.

Axes: N environments, T steps of a round, B rows of a minibatch, A action dimensions, G sets of weights.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frugal.core.live import Live, NotFinite
from frugal.core.recipe import Recipe
from frugal.core.run import Run

from .batch import Batch, Rows
from .env import Ended, Environments, Step
from .evaluate import Evaluation
from .net import Net
from .networks import Weights
from .record import Episodes, finite, resume, set_aside, snapshot
from .slots import On

ROUND = 50  # samples between two looks at settings, evaluations and checkpoints, or one collection if that is more


@dataclass
class Out:
    """What the networks say of rows."""

    law: Any
    logp: Tensor  # [B]
    v: Tensor  # [B]
    z: Tensor  # [B,D]


def train(recipe: Recipe, env: Environments, run: Run, evaluation: Evaluation) -> Live:
    """Train on `env` until the run's budget is spent, from where the run stands. Returns the parts at work."""
    recipe.check()
    settings, spent = recipe.settings, run.ledger
    net = run.net = Net(recipe, env.spaces, run)
    run.settings = settings.at(0.0)
    p = Live(recipe, run)
    net.join(p)
    kept = {"net": net, "parts": p, "env": env}
    if not resume(run, kept):
        env.begin(torch.arange(env.n), p.reset(Ended(torch.arange(env.n), None, None, torch.zeros(env.n))))
    while run.left():
        s = run.settings = settings.at(run.progress)
        evaluation.when_due(net, run)
        began, rng, episodes = time.monotonic(), run.rng("round"), Episodes()
        losses: dict[str, list[float]] = defaultdict(list)
        until = spent.samples + min(ROUND, run.left())
        while spent.samples < until:
            window = collect(p, net, env, s, run, episodes, rng)
            try:
                learn(p, net, window, s, run, losses, rng)
                p.learn(window)
                run.stumbled = 0
            except NotFinite as wrong:  # nothing is learnt from these steps any more
                run.stumbled, spent.skipped_steps = run.stumbled + 1, spent.skipped_steps + 1
                set_aside(run, wrong)
        spent.seconds += time.monotonic() - began
        means = {name: sum(values) / len(values) for name, values in losses.items()}
        run.log("train", **episodes.means(), **means, patches=p.report())
        run.tick(lambda: snapshot(kept))
    evaluation.when_due(net, run, last=True)
    run.finish(lambda: snapshot(kept))
    return p


@torch.no_grad()
def collect(p: Live, net: Net, env: Environments, s: On, run: Run, episodes: Episodes, rng: torch.Generator) -> Batch:
    """`s.steps` steps of every environment, or one whole episode of each, and not more than the budget holds."""
    spent, steps, whole = run.ledger, list[Step](), not s.steps
    active = torch.ones(env.n, dtype=torch.bool)
    sets: list[Weights] = []
    for t in itertools.count():
        if not (run.left() and (active.any() if whole else t < s.steps)):
            break
        sets = p.behaviour(net, steps)
        a = torch.empty(env.n, env.spaces.actions)
        for g, weights in enumerate(sets):  # row n acts by set n % G
            a[g :: len(sets)], _ = net.law(env.obs[g :: len(sets)], weights=weights).sample(rng)
        step = env.step(a, active if whole else None)
        steps.append(step)
        p.observe(step)
        spent.samples += int(step.valid.sum())
        ended = step.ended & step.valid
        if ended.any():
            over = episodes.add(step, env)
            spent.episodes += len(over.rows)
            env.begin(over.rows, p.reset(over))
            active = active & ~ended
    names = ("obs", "act", "reward", "next", "term", "cut", "valid")
    columns = {name: torch.stack([step.columns[name] for step in steps], 1) for name in steps[0].columns}
    stacked = {name: torch.stack([getattr(step, name) for step in steps], 1) for name in names}
    stacked["cut"][:, -1] |= whole & active  # by the end of the budget
    return Batch(**stacked, columns=columns, rng=rng, sets=len(sets))


def learn(
    p: Live, net: Net, window: Batch, s: On, run: Run, losses: dict[str, list[float]], rng: torch.Generator
) -> None:
    """What follows a collection: credit, then steps on minibatches. Raises `NotFinite`."""
    # credit: what the outcomes are worth
    rows = Rows.join([assess(p, net, each) for each in p.keep(window)])

    # learn, update
    said: dict[str, Tensor] = {}
    loss = objective(p, net, s, said, losses)
    said["credit.advantage"] = rows.A
    for mini in minibatches(rows, s, rng):
        finite(p.step(net, loss, mini), mini, said)
        run.ledger.gradient_steps += 1


@torch.no_grad()
def assess(p: Live, net: Net, window: Batch) -> Rows:
    """Advantages, targets and log-probabilities under the present weights, of the steps that happened."""
    N, T = window.valid.shape
    flat = window.obs.flatten(0, 1), window.next.flatten(0, 1)
    v, v_next = (net.critic(net.weights, net.encode(obs)).view(N, T) for obs in flat)
    A, target = p.advantage(p.rewards(window), v, v_next, window)
    obs, act, where = window.obs[window.valid], window.act[window.valid], window.valid
    group = (torch.arange(N) % window.sets)[:, None].expand(N, T)[where]
    old = net.law(obs).logp(act)
    return Rows(obs, act, old, A[where], target[where], group, window.term[where], window.cut[where])


def objective(
    p: Live, net: Net, s: On, said: dict[str, Tensor], losses: dict[str, list[float]]
) -> Callable[[Weights, Rows], Tensor]:
    """The loss of rows as a function of the weights; what each part said is left in `said`."""

    def loss(weights: Weights, rows: Rows) -> Tensor:
        out = forward(net, weights, rows)
        A = (rows.A - rows.A.mean()) / (rows.A.std() + 1e-8) if s.whiten and len(rows) > 1 else rows.A
        said["learn.surrogate"] = p.surrogate(out.logp, rows.old, A)
        said["learn.critic"] = (out.v - rows.target).square()
        said["learn.terms"] = p.terms(out, rows) if p.terms else torch.zeros(())
        losses["critic"].append(float(said["learn.critic"].detach().mean()))
        losses["entropy"].append(float(out.law.entropy.detach().mean()))
        each = said["learn.surrogate"] + s.value * said["learn.critic"] - s.entropy * out.law.entropy
        return (each + said["learn.terms"]).mean()

    return loss


def forward(net: Net, weights: Weights, rows: Rows) -> Out:
    """What the networks with these weights say of rows."""
    z = net.encode(rows.obs, weights)
    law = net.law(rows.obs, z, weights)
    return Out(law, law.logp(rows.act), net.critic(weights, z), z)


def minibatches(rows: Rows, s: On, rng: torch.Generator) -> Iterator[Rows]:
    """`epochs` passes over the rows in a new order each."""
    for _ in range(s.epochs):
        if s.batch is None:
            yield rows
            continue
        for where in torch.randperm(len(rows), generator=rng).split(s.batch):
            yield rows.take(where)
