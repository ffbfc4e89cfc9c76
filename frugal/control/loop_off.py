"""The off-policy loop: start, act, credit, learn, update, read from top to bottom.

Axes: N environments, B rows of a minibatch, n steps ahead, K critics, A action dimensions.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace

import torch
from torch import Tensor

from frugal import maths
from frugal.core.live import Live, NotFinite
from frugal.core.recipe import Recipe
from frugal.core.run import Run

from .batch import Batch
from .env import Ended, Environments
from .evaluate import Evaluation
from .net import Net
from .record import Episodes, finite, resume, set_aside, snapshot
from .replay import Replay
from .slots import Off
from .spaces import Spaces

ROUND = 100  # samples between two looks at settings, evaluations and checkpoints


def train(recipe: Recipe, env: Environments, run: Run, evaluation: Evaluation) -> Live:
    """Train on `env` until the run's budget is spent, from where the run stands. Returns the parts at work."""
    recipe.check()
    settings, spent = recipe.settings, run.ledger
    net = run.net = Net(recipe, env.spaces, run)
    run.settings = settings.at(0.0)
    p = Live(recipe, run)
    net.join(p)
    most = (1 + env.vector) * run.budget + env.n  # of a vector, resets take steps of their own
    store = Replay(min(run.settings.capacity, most), env.n, env.obs[0].nbytes)
    kept = {"net": net, "parts": p, "env": env, "store": store}
    if not resume(run, kept):
        env.begin(torch.arange(env.n), p.reset(Ended(torch.arange(env.n), None, None, torch.zeros(env.n))))
    while run.left():
        s = run.settings = settings.at(run.progress)
        evaluation.when_due(net, run)
        began, rng, episodes = time.monotonic(), run.rng("round"), Episodes()
        losses: dict[str, list[float]] = defaultdict(list)
        batch: Batch | None = None
        until = spent.samples + min(ROUND, run.left())
        while spent.samples < until:
            # act
            before = spent.samples
            if before < s.warmup:
                a = uniform(env.spaces, env.n, rng)
            else:
                with torch.no_grad():
                    a, _ = net.law(env.obs).sample(rng)
                    a = p.explore(a, env.obs, "collect", rng)
            step = env.step(a)
            store.add(step)
            p.observe(step)
            spent.samples += int(step.valid.sum())

            # start
            ended = step.ended
            if ended.any():
                over = episodes.add(step, env)
                spent.episodes += len(over.rows)
                env.begin(over.rows, p.reset(over))

            # update
            if spent.samples <= s.warmup:
                continue
            for _ in range(p.ratio(before, spent.samples)):
                rows, weight = p.draw(store, s.batch, rng)
                batch = replace(store.window(rows, s.n), weight=weight, rng=rng)
                try:
                    learn(net, p, batch, s, losses, spent.gradient_steps)
                    spent.gradient_steps += 1
                    run.stumbled = 0
                except NotFinite as wrong:  # nothing is learnt from these rows
                    run.stumbled, spent.skipped_steps = run.stumbled + 1, spent.skipped_steps + 1
                    set_aside(run, wrong)
        if batch is not None:
            p.learn(batch)
        spent.seconds += time.monotonic() - began
        means = {name: sum(values) / len(values) for name, values in losses.items()}
        run.log("train", **episodes.means(), **means, patches=p.report())
        run.tick(lambda: snapshot(kept))
    evaluation.when_due(net, run, last=True)
    run.finish(lambda: snapshot(kept))
    return p


def learn(net: Net, p: Live, batch: Batch, s: Off, losses: dict[str, list[float]], updates: int) -> None:
    """One update: critic, then actor, then targets. Raises `NotFinite` before weights change."""
    if p.encoder.view is not None:
        batch.obs, batch.next = p.encoder.view(batch.obs, batch.rng), p.encoder.view(batch.next, batch.rng)

    # credit: what the outcomes are worth
    with torch.no_grad():
        after = batch.last(batch.next)
        a, logp = net.law_after(after).sample(batch.rng)
        a = p.explore(a, after, "target", batch.rng)
        v = p.value(net.q(net.encode(after, net.target), a, net.target), logp, net)  # [B]
        r = p.rewards(batch)  # [B,n]
        R, discount = maths.n_step(r, batch.valid, s.gamma)
        y = R + discount * ~batch.last(batch.term) * v  # [B]

    # learn
    z = net.encode(batch.state)
    q = net.q(z, batch.action)  # [K,B]
    loss = p.critic.loss(q, y)  # [B]
    if batch.weight is not None:
        loss = loss * batch.weight
    if p.terms:
        loss = loss + p.terms(net, batch)
    gradient = net.groups["critic"].gradient(loss.mean())
    norm = net.groups["critic"].step(gradient, s.lr, s.max_grad_norm)
    finite(norm, batch, {"credit.rewards": r, "credit.value": v, "learn.critic": q, "learn.terms": loss})
    if hasattr(p.draw, "seen"):
        p.draw.seen(batch.rows, (q.detach() - y).abs().mean(0))
    losses["critic"].append(float(loss.detach().mean()))
    losses["q"].append(float(q.detach().mean()))
    if p.actor.every and (updates + 1) % p.actor.every == 0:
        batch.z = z.detach()
        loss = p.actor(net, batch)  # [B]
        gradient = net.groups["actor"].gradient(loss.mean())
        norm = net.groups["actor"].step(gradient, s.lr, s.max_grad_norm)
        finite(norm, batch, {"learn.actor": loss})
        losses["actor"].append(float(loss.detach().mean()))

    # update
    if (updates + 1) % s.track == 0:
        net.track(s.tau)


def uniform(spaces: Spaces, n: int, rng: torch.Generator) -> Tensor:
    """Actions [N,A] of which each is as likely."""
    drawn = torch.rand(n, spaces.actions, generator=rng)
    return drawn * 2 - 1 if spaces.continuous else (drawn * torch.tensor(spaces.choices)).floor()
