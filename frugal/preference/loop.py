"""The preference loop: start, act, credit, learn, update, read from top to bottom.

Axes: P prompts, B rows of a round, b rows of a minibatch, n pairs, T response positions.
"""

from __future__ import annotations

import time
from typing import Protocol

from torch import Tensor

from frugal.core.ledger import Spent
from frugal.core.live import Live, NotFinite
from frugal.core.optimiser import Optimiser
from frugal.core.recipe import Recipe
from frugal.core.run import Run
from frugal.language.gradient import accumulate, look_again
from frugal.language.loop import columns_by_view, minibatches, settled
from frugal.language.policy import Now, Policy
from frugal.language.record import resume, set_aside, snapshot
from frugal.language.rollout import Sampler
from frugal.language.rows import Ask
from frugal.language.tasks.task import Task

from .oracles import Asking
from .pairs import Pairs
from .record import describe, table


class Evaluation(Protocol):
    """What the loop wants of an evaluation."""

    @property
    def limit(self) -> int:
        """Most tokens of a response."""

    def when_due(self, net: Policy, run: Run, last: bool = False) -> None: ...


def train(recipe: Recipe, task: Task, net: Policy, run: Run, evaluation: Evaluation, micro_tokens: int = 0) -> None:
    """Train `net` on comparisons until the run's budget of labels is spent, from where the run stands.

    `micro_tokens` bounds the tokens of one forward and backward pass (0: by the model's size); it changes memory, not
    the result.
    """
    recipe.check()
    columns, micro_tokens = columns_by_view(recipe), micro_tokens or net.micro_tokens
    pool, spent, run.net, run.task, run.recipe = list(task.problems("train")), run.ledger, net, task, recipe
    if "ref" in columns:
        net.freeze_reference()
    p = Live(recipe, run)
    settings = settled(recipe.settings, evaluation.limit, net)
    optimiser = Optimiser(net.trainable())
    resume(run, optimiser, p)
    while run.left():
        s = run.settings = settings.at(run.progress)
        net.temperature = s.temperature
        optimiser.weight_decay, optimiser.max_grad_norm = s.weight_decay, s.max_grad_norm
        evaluation.when_due(net, run)
        began = time.monotonic()

        # start, act: prompts, and responses to them
        problems = p.prompts(pool, min(s.prompts, run.left()), run.rng("prompts"))
        prompts = net.encode_all([problem.prompt for problem in problems])
        asks = [Ask(q, prompt, g, s.group) for g, (q, prompt) in enumerate(zip(problems, prompts, strict=True))]
        drawing = Spent()
        sampler = Sampler(net, task, drawing, columns=columns.get("old", {}), limit=s.max_tokens)
        rows = p.answers(asks, sampler, run.rng("answers"))
        rows = p.choose(rows, run.rng("choose"))
        spent.completions, spent.tokens = spent.completions + drawing.samples, spent.tokens + drawing.tokens

        # credit: who wins
        pairs = p.label(rows, Asking(task, net, run))
        pairs = pairs.take(~pairs.y.isnan())
        for view in columns.keys() - {"old", "now"} if len(pairs) else ():
            pairs = pairs.put(rows=look_again(pairs.rows, net, view, columns[view], micro_tokens))

        # update: which pairs are learnt from
        learning = p.memory(pairs)

        # learn
        steps: list[dict[str, float]] = []
        try:
            for mini, fresh in minibatches(learning, s, run):

                def objective(now: Now, mini: Pairs = mini) -> Tensor:
                    z = p.score(now.logp - p.reference(mini.rows), mini.rows)  # [b]
                    loss = p.loss(z[mini.a], z[mini.b], mini) + p.terms(now, mini)  # [n]
                    if not loss.isfinite().all():
                        raise NotFinite("learn.loss", mini.take(~loss.isfinite()).rows)
                    margin = (z[mini.chosen] - z[mini.rejected]).detach()
                    steps.append({"accuracy": float((margin > 0).float().mean()), "margin": float(margin.mean())})
                    return loss.mean()

                known = net.exact and fresh and learning is pairs and bool(mini.rows.drawn.all())
                loss = accumulate(net, mini.rows, columns.get("now", {}), objective, micro_tokens, known)
                norm = optimiser.step(s.lr)
                steps[-1] |= {"loss": loss, "grad_norm": norm}
                if not norm < float("inf"):
                    raise NotFinite("the gradient", mini.rows)
                spent.gradient_steps += 1
            p.learn(pairs)
            run.stumbled = 0
        except NotFinite as wrong:  # nothing is learnt from this round any more
            optimiser.clear()
            steps.clear()
            run.stumbled, spent.skipped_steps = run.stumbled + 1, spent.skipped_steps + 1
            set_aside(run, net, wrong)

        spent.seconds += time.monotonic() - began
        run.log("train", **describe(rows, pairs, steps), patches=p.report())
        run.keep(table(pairs, net, run.clock))
        run.tick(lambda: snapshot(run, optimiser, p))
    evaluation.when_due(net, run, last=True)
    run.finish(lambda: snapshot(run, optimiser, p))
