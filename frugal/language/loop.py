"""The language loop: start, act, credit, learn, update, read from top to bottom.

Axes: N problems of the pool, G groups, B rows of a round, b rows of a minibatch, T response positions.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from frugal import maths
from frugal.core.live import Live, NotFinite
from frugal.core.optimiser import Optimiser
from frugal.core.recipe import Recipe
from frugal.core.run import Run
from frugal.core.schedule import Schedule

from .evaluate import Evaluation
from .gradient import accumulate, look_again
from .policy import Column, Now, Policy
from .record import describe, resume, set_aside, snapshot, table
from .rollout import Sampler
from .rows import Ask, Rows
from .slots import Settings
from .tasks.task import Problem, Task


class Batch(Protocol):
    """Rows, or pairs of them."""

    @property
    def group(self) -> Tensor: ...

    def take(self, index: Tensor) -> Self: ...


Grouped = TypeVar("Grouped", bound=Batch)
LARGEST_WEIGHT = 2.0  # of a token that training and sampling round differently, in half precision: Yao et al. 2025
SMALL_MODEL = 10_000_000  # parameters; the learning rate below it and above it was tuned (docs/log.md)


def train(recipe: Recipe, task: Task, net: Policy, run: Run, evaluation: Evaluation, micro_tokens: int = 0) -> None:
    """Train `net` on `task` until the run's budget is spent, from where the run stands.

    `micro_tokens` bounds the tokens of one forward and backward pass (0: by the model's size); it changes memory, not
    the result.
    """
    recipe.check()
    columns, micro_tokens = columns_by_view(recipe), micro_tokens or net.micro_tokens
    pool, spent, run.net, run.task = list(task.problems("train")), run.ledger, net, task
    if "ref" in columns:
        net.freeze_reference()
    p = Live(recipe, run)
    settings = settled(recipe.settings, evaluation.limit, net)
    optimiser = Optimiser(net.trainable())
    resume(run, optimiser, p)
    sampler = Sampler(net, task, run.ledger, p.temperature or None, columns.get("old", {}))
    while run.left():
        s = run.settings = settings.at(run.progress)
        net.temperature, sampler.limit = s.temperature, s.max_tokens
        optimiser.weight_decay, optimiser.max_grad_norm = s.weight_decay, s.max_grad_norm
        evaluation.when_due(net, run)
        began = time.monotonic()

        # start, act: gather groups until enough are kept
        batch = gather(p, pool, sampler, s, run)
        if batch is None:
            break  # the budget ended before a group was kept
        for view in columns.keys() - {"old", "now"}:
            batch = look_again(batch, net, view, columns[view], micro_tokens)
            spent.teacher_calls += len(batch) if view in net.others else 0

        steps: list[dict[str, float]] = []
        try:
            # credit: what the outcomes are worth
            r = batch.at_end(batch.score) + p.rewards(batch)  # [B,T]
            A = p.advantage(r, batch) + p.bonus(batch)  # [B,T]
            batch = batch.put(A=A * p.weights(A, batch))

            # update: what is learnt from
            batch = batch.put(selected=batch.use & p.select(batch.A, batch))
            learning = batch
            for older in p.replay(batch):
                after = older.group + int(learning.group.max()) + 1
                learning = learning + older.put(group=after, stale=torch.ones_like(older.own))

            # learn
            for mini, fresh in minibatches(learning.take(learning.use.any(1)), s, run):  # rows that train
                known = net.exact and fresh and bool((mini.drawn & ~mini.stale.any(1)).all())

                def objective(now: Now, mini: Rows = mini, fresh: bool = fresh) -> Tensor:
                    new = fresh & ~mini.stale
                    old = torch.where(new, now.logp.detach(), mini.old)  # before the first step the ratio is exactly 1
                    ratio = maths.by_unit(now.logp - old, mini.use, s.unit, mini.turn)  # [b,T]
                    use = mini.use & p.mask(now, mini)  # [b,T]
                    bounds = p.clip(ratio, mini.A, use)
                    loss = p.surrogate(now, ratio, mini.A, bounds, mini) * p.step_weights(now, mini)
                    outside = (ratio < bounds[0]) | (ratio > bounds[1])
                    steps.append({"clipped": float(maths.masked_mean(outside.float(), use))})
                    if fresh and not net.exact:  # sampling and training round differently
                        sampled = torch.where(new & mini.drawn[:, None], mini.old, old)
                        loss = loss * maths.truncated_weight(old, sampled, LARGEST_WEIGHT)
                        steps[-1]["mismatch"] = float(maths.masked_mean((old - sampled).abs(), use))
                    return maths.loss_mean(loss + p.terms(now, mini), use, s.mean, mini.limit)

                loss = accumulate(net, mini, columns.get("now", {}), objective, micro_tokens, known)
                norm = optimiser.step(s.lr)
                steps[-1] |= {"loss": loss, "grad_norm": norm}
                if not norm < float("inf"):
                    raise NotFinite("the gradient", mini)
                spent.gradient_steps += 1
            p.learn(batch)
            run.stumbled = 0
        except NotFinite as wrong:  # nothing is learnt from this round any more
            optimiser.clear()
            steps.clear()
            run.stumbled, spent.skipped_steps = run.stumbled + 1, spent.skipped_steps + 1
            set_aside(run, net, wrong)
            batch = batch if batch.A is not None else batch.put(A=torch.zeros_like(batch.old))

        spent.seconds += time.monotonic() - began
        run.log("train", tokens=spent.tokens, steps=spent.steps, **describe(batch, steps), patches=p.report())
        run.keep(table(batch, net, run.clock))
        run.tick(lambda: snapshot(run, optimiser, p))
    evaluation.when_due(net, run, last=True)
    run.finish(lambda: snapshot(run, optimiser, p))


def gather(p: Live, pool: list[Problem], sampler: Sampler, s: Settings, run: Run) -> Rows | None:
    """Scored rows of `s.prompts` kept groups, fewer if the budget ends first; None if no group was kept."""
    batch: Rows | None = None
    groups = kept = 0
    for attempt in itertools.count():
        affordable = max(run.left() // s.group, 1) if run.left() else 0
        wanted = min(s.prompts - kept, affordable)
        if not wanted:
            break
        asks = []
        for i in draw(p.pick(pool), len(pool), wanted, run.rng("pick", attempt)):
            start = p.state(pool[i], run.rng("state", attempt, i))
            asks.append(Ask(pool[i], sampler.net.encode(start.prompt, start.prefix), groups, s.group))
            groups += 1
        rows = p.collect(asks, sampler, run.rng("collect", attempt))
        if rows is None:
            continue  # it waits for more
        rows = p.score(rows, sampler)
        for k in itertools.count():
            extras = [extra for extra in p.extra(rows, k) if extra]
            if not extras:
                break
            dropped = [extra.drop for extra in extras if extra.drop is not None]
            if dropped:
                rows = rows.take(~torch.stack(dropped).any(0))
            for which, extra in enumerate(extras):
                if extra.asks:
                    rows = rows + sampler(extra.asks, run.rng("extra", attempt, k, which))
                if extra.ready is not None:
                    rows = rows + extra.ready
            rows = p.score(rows, sampler)
        _, std = maths.group_mean_std(rows.score, rows.group, rows.counts)
        run.ledger.flat_groups += len(rows.group[std == 0].unique())
        if p.keep:
            _, where = rows.group.unique(return_inverse=True)
            keep = p.keep(rows.score, rows)  # [G]
            run.ledger.rejected_groups += int((~keep).sum())
            rows = rows.take(keep[where])
        if len(rows):
            kept += len(rows.group.unique())
            batch = rows if batch is None else batch + rows
    return batch


def draw(log_weights: Tensor | float, n: int, wanted: int, rng: torch.Generator) -> list[int]:
    """`wanted` of n indices without replacement, in proportion to exp(log_weights): the Gumbel top-k trick."""
    gumbel = -torch.empty(n).exponential_(generator=rng).log()
    return (gumbel + log_weights).topk(wanted).indices.tolist()


def minibatches(batch: Grouped, s: Any, run: Run) -> Iterator[tuple[Grouped, bool]]:
    """(rows or pairs, whether the weights are still those that sampled them): `epochs` passes; groups stay whole."""
    groups, fresh = batch.group.unique(), True
    for epoch in range(s.epochs):
        order = groups[torch.randperm(len(groups), generator=run.rng("minibatches", epoch))]
        for chosen in order.tensor_split(min(s.minibatches, len(groups))) if len(groups) else ():
            yield (batch if s.minibatches == 1 else batch.take(torch.isin(batch.group, chosen))), fresh
            fresh = False


def settled(settings: Settings, limit: int, net: Policy) -> Settings:
    """The settings with what was left to the task (`limit`, the longest response) and to the model (`lr`)."""
    lr = settings.lr if settings.lr is not None else 4e-4 if net.size < SMALL_MODEL else 1e-5
    cap = 1.0 if settings.max_tokens is None else settings.max_tokens
    ends = (cap.start, cap.end) if isinstance(cap, Schedule) else (cap,)
    if all(isinstance(end, float) and end <= 1 for end in ends):
        cap = cap * limit
    return replace(settings, lr=lr, max_tokens=cap if isinstance(cap, Schedule) else max(round(cap), 1))


def columns_by_view(recipe: Recipe) -> dict[str, dict[str, Column]]:
    """{"now": {"entropy": column}, "ref": {}}: what the parts need, by who has to say it; logp is always said."""
    views: dict[str, dict[str, Column]] = {}
    for name, column in recipe.needs().items():
        view, what = name.split(".")
        views.setdefault(view, {}).update({} if what == "logp" else {what: column})
    return views
