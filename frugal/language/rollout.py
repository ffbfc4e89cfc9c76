"""From wishes to scored rows: sampling over one or many turns, and asking the verifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from frugal.core import parallel
from frugal.core.errors import FrugalError, RunFailed
from frugal.core.ledger import Spent

from .policy import Column, Policy
from .rows import Ask, Rows
from .sampler import Sampled, Stop, Temperature, sample
from .tasks.task import Problem, Task
from .tasks.watched import Failed, Raised

UNSCORED = float("nan")


@dataclass
class Sampler:
    """Draws rows for asks with the present policy; counts what it spends."""

    net: Policy
    task: Task
    spent: Spent
    temperature: Temperature | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    limit: int = 0  # most positions of a response

    def __call__(self, asks: Sequence[Ask], rng: torch.Generator) -> Rows:
        """One row for each rollout asked for, not yet scored. Tokens are never decoded and encoded again."""
        self.spent.samples += sum(ask.n for ask in asks)
        if not hasattr(self.task, "reply"):
            return self.go_on(None, asks, rng)
        each = [replace(ask, n=1) for ask in asks for _ in range(ask.n)]
        greedy = torch.tensor([ask.greedy for ask in each])
        tapes: list[list[dict[str, Tensor]]] = [[] for _ in each]
        contexts, room = [ask.prompt for ask in each], torch.full((len(each),), self.limit)
        going, done = list(range(len(each))), torch.zeros(len(each), dtype=torch.bool)
        while going:
            here = torch.tensor(going)
            u = torch.rand(len(going), int(room[here].max()), generator=rng)
            got = self._sample([contexts[b] for b in going], room[here], u, greedy[here])
            done[here] = got.done
            for i, b in enumerate(going):
                n = int(got.length[i])
                parts = {"tokens": got.tokens, "old": got.old, "behaviour": got.behaviour, **got.columns}
                tapes[b].append({name: value[i, :n] for name, value in parts.items()})
                room[b] -= n
            going = [b for b in going if done[b]]
            replies = self._replies([each[b] for b in going], [tapes[b] for b in going])
            going = [
                b
                for b, words in zip(going, replies, strict=True)
                if words is not None and self._hear(words, each[b], tapes[b], contexts, b, room, done)
            ]
        return self._rows_of_turns(each, tapes, done)

    def go_on(self, rows: Rows | None, asks: Sequence[Ask], rng: torch.Generator, enough: int | None = None) -> Rows:
        """`rows` sampled on where they have not ended, and then one row for each rollout asked for; of one turn.

        With `enough` it stops when so many groups have ended, and what has not can go on another time. Charges tokens
        and steps, but no sample.
        """
        rows = self._begin(asks) if rows is None else rows + self._begin(asks, rows.columns)
        which = (~self.ended(rows)).nonzero()[:, 0]
        mine = which[parallel.share(len(which), least=1)]
        stop = None if enough is None else _until(enough, rows.group, mine)
        if len(which) == 0 or (stop and stop(torch.arange(len(mine)))):
            return rows
        begun = rows.length[which]
        contexts = [rows.prompts[b] + tuple(rows.tokens[b, : rows.length[b]].tolist()) for b in which.tolist()]
        u = torch.rand(len(which), self.limit - int(begun.min()), generator=rng)
        got = self._sample(contexts, self.limit - begun, u, rows.greedy[which], begun, stop)
        said = {f"old.{name}": value for name, value in got.columns.items()}
        more = {"tokens": got.tokens, "old": got.old, "behaviour": got.behaviour, **said}
        return rows.extended(which, more, got.length, got.done)

    def ended(self, rows: Rows) -> Tensor:
        """Which rows ended by themselves or are as long as they may be. [B] bool"""
        return rows.done | (rows.length >= self.limit)

    def _sample(
        self,
        contexts: Sequence[tuple[int, ...]],
        limit: Tensor,
        u: Tensor,
        greedy: Tensor,
        begun: Tensor | None = None,
        stop: Stop | None = None,
    ) -> Sampled:
        """Continue each context; every process continues its share, and all have all of them in the end."""
        n = len(contexts)
        mine = parallel.share(n, least=1)
        parallel.agree(hash(tuple(contexts)), "the prompts")
        distinct = {c: i for i, c in enumerate(dict.fromkeys(contexts[mine]))}
        index = torch.tensor([distinct[c] for c in contexts[mine]])
        how = (self.temperature, self.columns, None if begun is None else begun[mine], stop)
        got = sample(self.net, list(distinct), index, limit[mine], u[mine], greedy[mine], *how)
        one = {f.name: parallel.whole(getattr(got, f.name), n) for f in fields(got) if f.name != "columns"}
        whole = Sampled(**one, columns={name: parallel.whole(value, n) for name, value in got.columns.items()})
        self.spent.tokens += int(whole.length.sum())
        self.spent.steps += int(whole.length.max())
        return whole

    def _replies(self, asks: Sequence[Ask], tapes: Sequence[list[dict[str, Tensor]]]) -> list[Tensor | None]:
        """The environment's next words to each row, None where its episode is over; each row is asked for once."""
        if not asks:
            return []
        lines = [torch.zeros(1, dtype=torch.int64)]  # of each row: 0, or one more than its words, and the words
        mine = parallel.share(len(asks))
        for ask, tape in zip(asks[mine], tapes[mine], strict=True):
            turns = [self.net.decode(p["tokens"].tolist()) for p in tape if "old" in p]
            reply = self.task.reply(ask.problem, turns)  # type: ignore[attr-defined]
            words = [] if reply is None else self.net.encode_reply(reply)
            lines.append(torch.tensor([0 if reply is None else 1 + len(words), *words]))
        said = parallel.whole(pad_sequence(lines, batch_first=True)[1:], len(asks))
        return [line[1 : line[0]] if line[0] else None for line in said]

    def _hear(
        self,
        words: Tensor,
        ask: Ask,
        tape: list[dict[str, Tensor]],
        contexts: list[tuple[int, ...]],
        b: int,
        room: Tensor,
        done: Tensor,
    ) -> bool:
        """Append the environment's words to row b; False when they cut it for lack of room."""
        if len(words) >= room[b]:
            done[b] = False
            return False
        tape.append({"tokens": words})
        room[b] -= len(words)
        contexts[b] = ask.prompt + tuple(int(t) for piece in tape for t in piece["tokens"])
        return True

    def _rows_of_turns(self, each: list[Ask], tapes: list[list[dict[str, Tensor]]], done: Tensor) -> Rows:
        """Join each row's pieces; what the environment said is not own and has no log-probability."""

        def joined(piece_of: Callable[[int, dict[str, Tensor]], Tensor]) -> Tensor:
            rows = [torch.cat([piece_of(i, piece) for i, piece in enumerate(tape)]) for tape in tapes]
            return pad_sequence(rows, batch_first=True)

        def stack(name: str) -> Tensor:
            like = next(piece[name] for tape in tapes for piece in tape if name in piece)
            return joined(lambda _, p: p[name] if name in p else like.new_zeros(len(p["tokens"]), *like.shape[1:]))

        length = torch.tensor([sum(len(piece["tokens"]) for piece in tape) for tape in tapes])
        own = joined(lambda _, p: torch.full_like(p["tokens"], "old" in p)).bool()
        return self._begin(each).put(
            **{name: stack(name) for name in ("tokens", "old", "behaviour")},
            own=own,
            turn=joined(lambda i, p: torch.full_like(p["tokens"], i // 2)),
            stale=torch.zeros_like(own),
            length=length,
            done=done,
            columns={f"old.{name}": stack(name) for name in self.columns},
        )

    def _begin(self, asks: Sequence[Ask], columns: Mapping[str, Tensor] | None = None) -> Rows:
        """Rows without a token, with columns like those given."""
        each = [ask for ask in asks for _ in range(ask.n)]
        n = len(each)
        nothing = torch.zeros(n, 0)
        return Rows(
            problems=tuple(ask.problem for ask in each),
            prompts=tuple(ask.prompt for ask in each),
            tokens=nothing.long(),
            own=nothing.bool(),
            turn=nothing.long(),
            old=nothing,
            behaviour=nothing,
            group=torch.tensor([ask.group for ask in each], dtype=torch.int64),
            score=torch.full((n,), UNSCORED),
            done=torch.zeros(n, dtype=torch.bool),
            counts=torch.tensor([ask.counts for ask in each], dtype=torch.bool),
            trains=torch.tensor([ask.trains for ask in each], dtype=torch.bool),
            greedy=torch.tensor([ask.greedy for ask in each], dtype=torch.bool),
            drawn=torch.ones(n, dtype=torch.bool),
            stale=nothing.bool(),
            length=torch.zeros(n, dtype=torch.int64),
            limit=self.limit,
            columns={name: x.new_zeros(n, 0, *x.shape[2:]) for name, x in (columns or {}).items()},
        )


def _until(enough: int, group: Tensor, mine: Tensor) -> Stop:
    """Whether `enough` groups have ended, told which of the rows `mine` a process still samples. group [B], mine [n]"""
    ids, group = group.unique(return_inverse=True)

    def stop(alive: Tensor) -> bool:
        going = parallel.summed(group[mine[alive]].bincount(minlength=len(ids)))
        return int((going == 0).sum()) >= enough

    return stop


def rows_of_text(asks: Sequence[Ask], texts: Sequence[str], net: Policy, limit: int) -> Rows:
    """Rows that hold given responses, ended by the end-of-sequence token, with score 1."""
    ids = [[*net.tokenizer(text, add_special_tokens=False)["input_ids"], net.end] for text in texts]
    tokens = pad_sequence([torch.tensor(i[:limit]) for i in ids], batch_first=True)
    whole = torch.tensor([len(i) for i in ids])
    length = whole.clamp(max=limit)
    own = torch.arange(tokens.shape[1]) < length[:, None]
    zero, yes = torch.zeros(tokens.shape), torch.ones(len(asks), dtype=torch.bool)
    return Rows(
        problems=tuple(ask.problem for ask in asks),
        prompts=tuple(ask.prompt for ask in asks),
        tokens=tokens,
        own=own,
        turn=torch.zeros_like(tokens),
        old=zero,
        behaviour=zero,
        group=torch.tensor([ask.group for ask in asks]),
        score=torch.ones(len(asks)),
        done=whole <= limit,
        counts=yes,
        trains=yes,
        greedy=~yes,
        drawn=~yes,
        stale=torch.zeros_like(own),
        length=length,
        limit=limit,
    )


def completions(net: Policy, rows: Rows) -> list[Any]:
    """What the policy wrote: text, or the list of its turns where the environment spoke between them."""
    texts = []
    for b in range(len(rows)):
        own, turn = rows.own[b], rows.turn[b]
        turns = [net.decode(rows.tokens[b][own & (turn == k)].tolist()) for k in range(int(turn.max()) + 1)]
        texts.append(turns[0] if len(turns) == 1 else turns)
    return texts


def judge(task: Task, net: Policy, rows: Rows, spent: Spent) -> Rows:
    """Ask the verifier for the score of every row that has none, once. Raises `RunFailed` on a broken verifier."""
    unscored = rows.score.isnan().nonzero()[:, 0]
    if len(unscored) == 0:
        return rows
    asked = rows.take(unscored[parallel.share(len(unscored))])
    scores = verify(task, asked.problems, completions(net, asked)) if len(asked) else []
    spent.verifier_calls += len(unscored)
    spent.verifier_failures += int(parallel.summed(torch.tensor(sum(isinstance(x, Failed) for x in scores))))
    return rows.put(score=rows.score.index_copy(0, unscored, parallel.whole(torch.tensor(scores), len(unscored))))


def verify(task: Task, problems: Sequence[Problem], texts: Sequence[Any]) -> list[float]:
    """The task's scores, checked: as many as asked for, all finite numbers."""
    name = f"the reward of {task.name}"
    try:
        scores = list(task.score(problems, texts))
    except FrugalError:
        raise
    except Exception as error:
        raised = error if isinstance(error, Raised) else f"{type(error).__name__}: {error}"
        raise RunFailed(f"{name} raised {raised}; the first completion it was given: {texts[0]!r}") from error
    if len(scores) != len(texts):
        raise RunFailed(f"{name} returned {len(scores)} scores for {len(texts)} completions; return one for each")
    for score, text in zip(scores, texts, strict=True):
        if isinstance(score, str) or score is None or not math.isfinite(score):
            raise RunFailed(f"{name} returned {score!r}, which is no finite number, for the completion {text!r}")
    return [score if isinstance(score, Failed) else float(score) for score in scores]
