"""Held-out evaluation of the preference domain. Training does not notice: own random numbers, own ledger column.

    win         P(the policy's response beats the start's), by the oracle; the start itself has exactly 0.5
    win_data    the same against the chosen responses of the held-out pairs
    reward      the task's true score of a sampled response
    kl          KL(pi, start) in nats a response: at every token of the samples exact, over the whole vocabulary
    accuracy    share of the held-out pairs that log pi / start (a reward model: R) ranks as their labels do
    length      tokens of a response

A task that can say them exactly does (`exact`); what a task or net has nothing for is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from frugal.core import parallel
from frugal.core.ledger import Spent
from frugal.core.run import Run
from frugal.language import evaluate
from frugal.language.gradient import look, split
from frugal.language.policy import CHUNK_FLOATS, Policy
from frugal.language.rollout import Sampler, completions, judge, rows_of_text
from frugal.language.rows import Ask, Rows
from frugal.language.tasks.task import Problem

from .oracles import answers, oracle_of


@dataclass(frozen=True)
class Evaluation(evaluate.Evaluation):
    """`k` sampled responses to each of `problems` test problems, beside the start's with the same random numbers."""

    start: Any = None  # the policy that the run starts from, with itself as its reference
    micro_tokens: int = 0  # of a pass; 0: by the model's size
    _first: dict[str, Any] = field(default_factory=dict)  # the start's responses, and what it says of pairs

    @torch.no_grad()
    def __call__(self, net: Policy, run: Run, k: int) -> dict[str, float]:
        began, spent, temperature = time.monotonic(), run.ledger.evaluation, net.temperature
        net.temperature = 1.0
        pool = list(self.task.problems("test"))
        n = min(self.problems, len(pool))
        problems = [pool[i * len(pool) // n] for i in range(n)]
        found: dict[str, float] = {}
        if net.writes:
            exact = getattr(self.task, "exact", None)
            if exact:
                found = exact(*self._tables(net, list({str(p.prompt): p for p in pool}.values())), net)
            else:
                found = self._sampled(net, [p for p in problems for _ in range(self.k)], run)
        found |= self._accuracy(net, problems)
        net.temperature = temperature
        spent.seconds += time.monotonic() - began
        return found

    def _sampled(self, net: Policy, problems: Sequence[Problem], run: Run) -> dict[str, float]:
        spent = run.ledger.evaluation
        rows = self._draw(net, problems, run.seed, spent)
        texts = completions(net, rows)
        if "texts" not in self._first:
            again = any(line["kind"] == "evaluation" for line in run.curve)  # of a resumed run, which has paid for it
            with self.start.seen_by("ref") as start:
                first = self._draw(start, problems, run.seed, Spent() if again else spent)
                self._first["texts"] = completions(start, first)
        found = {}
        if oracle_of(self.task):
            found["win"] = self._wins(problems, texts, self._first["texts"], spent)
            if all("chosen" in p.columns for p in problems):
                found["win_data"] = self._wins(problems, texts, [p.columns["chosen"] for p in problems], spent)
        if hasattr(self.task, "score"):
            found["reward"] = float(judge(self.task, net, rows, spent).score.mean())
        return {**found, "kl": self._divergence(net, rows), "length": float(rows.length.float().mean())}

    def _divergence(self, net: Policy, rows: Rows) -> float:
        """Mean over rows of sum_t KL(pi(.|y_<t), start(.|y_<t)): one sample's, without the noise of its own tokens."""
        total, size = torch.zeros(1, dtype=torch.float64), max(1, CHUNK_FLOATS // net.head.weight.shape[0])
        for piece in split(rows, self.micro_tokens or net.micro_tokens):
            part = rows.take(piece)
            now = net.body.states(part, part.own)
            with self.start.seen_by("ref") as start:
                before = start.body.states(part, part.own)
            for a, b in zip(now.split(size), before.split(size), strict=True):
                logp, ref = net.logits(a).log_softmax(1), start.logits(b).log_softmax(1)
                total += (logp.exp() * (logp - ref)).sum()
        return float(parallel.summed(total)) / len(rows)

    def _draw(self, net: Policy, problems: Sequence[Problem], seed: int, spent: Spent) -> Rows:
        sampler = Sampler(net, self.task, spent, limit=self.limit)
        return sampler(_asks(net, problems), torch.Generator().manual_seed(seed))

    def _wins(self, problems: Sequence[Problem], ours: Sequence[str], theirs: Sequence[str], spent: Spent) -> float:
        """The mean of what the oracle says; equal texts and what it cannot tell are draws."""
        differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        said = answers(
            self.task, [problems[i] for i in differ], [ours[i] for i in differ], [theirs[i] for i in differ]
        )[0]
        spent.labels += len(differ)
        return float((said.double().nan_to_num(0.5).sum() + 0.5 * (len(ours) - len(differ))) / len(ours))

    def _accuracy(self, net: Policy, problems: Sequence[Problem]) -> dict[str, float]:
        pairs = [p for p in problems if "chosen" in p.columns and "rejected" in p.columns]
        if not pairs:
            return {}
        asks = _asks(net, [p for p in pairs for _ in range(2)])
        texts = [p.columns[side] for p in pairs for side in ("chosen", "rejected")]
        rows = rows_of_text(asks, texts, net, self.limit)
        z = self._log_probability(net, rows)
        if net.writes:
            if "pairs" not in self._first:
                with self.start.seen_by("ref") as start:
                    self._first["pairs"] = self._log_probability(start, rows)
            z = z - self._first["pairs"]
        margin = z[0::2] - z[1::2]
        return {"accuracy": float(((margin > 0).float() + (margin == 0).float() / 2).mean())}

    def _log_probability(self, net: Policy, rows: Rows) -> Tensor:
        """Of each response; of a reward model its reward. [B]"""
        return look(rows, net, {}, self.micro_tokens or net.micro_tokens)["logp"].sum(1)

    def _tables(self, net: Policy, problems: Sequence[Problem]) -> tuple[Tensor, Tensor]:
        """Probabilities of the first token of a response, now and at the start. [N,V] each, float64"""

        def table(policy: Policy) -> Tensor:
            prompts = policy.encode_all([p.prompt for p in problems])
            hidden, _ = policy.body.decode(prompts, torch.arange(len(prompts)), 1)
            return policy.logits(hidden).double().softmax(1)

        with self.start.seen_by("ref") as start:
            return table(net), table(start)


def _asks(net: Policy, problems: Sequence[Problem]) -> list[Ask]:
    prompts = net.encode_all([p.prompt for p in problems])
    return [Ask(q, prompt, g) for g, (q, prompt) in enumerate(zip(problems, prompts, strict=True))]
