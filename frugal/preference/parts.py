"""The fillings that base recipes are made of. Each is frozen data; equations are in `maths`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadTask
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.core.run import Run
    from frugal.language.policy import Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Problem, Task

    from .pairs import Memory, Pairs
    from .reward import RewardNet

# -- start ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InPasses:
    """The whole pool in random order, then again in another."""

    def begin(self, run: Run) -> Passing:
        return Passing()


class Passing:
    """Remembers what is left of a pass."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def __call__(self, pool: Sequence[Problem], n: int, rng: torch.Generator) -> list[Problem]:
        chosen: list[int] = []
        while len(chosen) < n:
            self.left = self.left or torch.randperm(len(pool), generator=rng).tolist()
            more = n - len(chosen)
            chosen, self.left = chosen + self.left[:more], self.left[more:]
        return [pool[i] for i in chosen]

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.left = state["left"]


# -- act ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FromPolicy:
    """`group` samples of the policy for each prompt."""

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        return sampler(asks, rng)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        from .oracles import oracle_of

        if oracle_of(task) is None:
            raise BadTask(
                f"{task.name} has nobody who labels responses; give an oracle: --label my_labels.py:prefer, or take "
                "dpo, which learns from the labels of the data"
            )


@dataclass(frozen=True)
class FromData:
    """The pair that the data have for each prompt, labelled: the fields `chosen` and `rejected`."""

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        from frugal.language.rollout import rows_of_text

        twice = [ask for ask in asks for _ in range(2)]
        texts = [ask.problem.columns[side] for ask in asks for side in ("chosen", "rejected")]
        return rows_of_text(twice, texts, sampler.net, sampler.limit).put(score=torch.tensor([1.0, 0.0] * len(asks)))

    def check(self, task: Task, net: Policy, limit: int) -> None:
        """Raise `BadTask` unless every training problem has two sides, which differ and fit."""
        sides = [(p, p.columns.get(side)) for p in task.problems("train") for side in ("chosen", "rejected")]
        if any(not isinstance(text, str) or not text for _, text in sides):
            raise BadTask(
                f"{task.name} has problems without a pair; give its rows the fields chosen and rejected, or take a "
                "base that labels its own samples, such as online-dpo"
            )
        long = [
            (p, n)
            for (p, _), ids in zip(sides, net.tokenizer([text for _, text in sides])["input_ids"], strict=True)
            if (n := len(ids)) > limit  # its end may be cut off, as that of a sample
        ]
        if long:
            where = long[0][0].columns.get("line", f"the prompt {str(long[0][0].prompt)[:40]!r}")
            raise BadTask(
                f"{task.name}: {len(long)} responses have more than {limit} tokens, the first at {where}, the longest "
                f"{max(n for _, n in long)}; allow them with max_tokens, or leave them out of the data"
            )


@dataclass(frozen=True)
class Both:
    """The pair of the data and the policy's own samples, as groups of their own."""

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        own = [dataclasses.replace(ask, group=ask.group + len(asks)) for ask in asks]
        return FromData()(asks, sampler, rng) + sampler(own, rng)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromData().check(task, net, limit)
        FromPolicy().check(task, net, limit)


@dataclass(frozen=True)
class Everyone:
    """All responses may be compared."""

    def __call__(self, rows: Rows, rng: torch.Generator) -> Rows:
        return rows


def drawn_by(view: str, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
    """Responses of another policy than the present one: the reference ("ref") or one of the policy's `others`."""
    with sampler.net.seen_by(view) as other:
        rows = dataclasses.replace(sampler, net=other)(asks, rng)
    return rows.put(drawn=torch.zeros_like(rows.drawn))


# -- credit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EachPair:
    """One label for every two responses of a prompt, in the order in which they were drawn."""

    def __call__(self, rows: Rows, ask: Callable[[Rows, Tensor, Tensor], Tensor]) -> Pairs:
        from .pairs import Pairs

        same = rows.group[:, None] == rows.group[None, :]
        a, b = same.triu(1).nonzero(as_tuple=True)
        return Pairs(rows, a, b, ask(rows, a, b))


# -- learn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScalarHead:
    """A copy of the model with a head that says one number of a response."""

    def __call__(self, model: Any, tokenizer: Any) -> RewardNet:
        from frugal.language.policy import Policy

        from .reward import from_policy

        return from_policy(Policy(model, tokenizer))


@dataclass(frozen=True)
class StartModel:
    """log pi_ref of the model that the run starts from."""

    needs = {"ref.logp": "logp"}

    def __call__(self, rows: Rows) -> Tensor:
        return rows.columns["ref.logp"]


@dataclass(frozen=True)
class OtherModel:
    """log pi_ref of a frozen model: a folder or hub name, with the policy's tokenizer."""

    model: str

    @property
    def needs(self) -> dict[str, Any]:
        return {"reference.logp": self.model}

    def __call__(self, rows: Rows) -> Tensor:
        return rows.columns["reference.logp"]


@dataclass(frozen=True)
class NoReference:
    """0: what is compared is the model's own number."""

    def __call__(self, rows: Rows) -> Tensor:
        return torch.zeros(rows.own.shape)


@dataclass(frozen=True)
class Sum:
    """z = sum over the response's own tokens."""

    def __call__(self, delta: Tensor, rows: Rows) -> Tensor:
        return delta.where(rows.own, 0.0).sum(1)


@dataclass(frozen=True)
class Mean:
    """z = mean over the response's own tokens."""

    def __call__(self, delta: Tensor, rows: Rows) -> Tensor:
        return maths.masked_mean(delta, rows.own, dim=1)


@dataclass(frozen=True)
class OfDifference:
    """y won(h) + (1 - y) won(-h) of the difference h = z_a - z_b."""

    beta: float

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        return mini.y * self.won(z_a - z_b) + (1 - mini.y) * self.won(z_b - z_a)

    def won(self, h: Tensor) -> Tensor:
        """The loss of a response that won by h."""
        raise NotImplementedError


@dataclass(frozen=True)
class Logistic(OfDifference):
    """won(h) = -log sigmoid(beta h): DPO, or Bradley-Terry."""

    def won(self, h: Tensor) -> Tensor:
        return maths.logistic_loss(h, self.beta)


@dataclass(frozen=True)
class Squared(OfDifference):
    """won(h) = (h - 1 / (2 beta))^2: IPO."""

    def won(self, h: Tensor) -> Tensor:
        return maths.ipo_loss(h, self.beta)


@dataclass(frozen=True)
class Hinge(OfDifference):
    """won(h) = max(0, 1 - beta h): SLiC."""

    def won(self, h: Tensor) -> Tensor:
        return maths.hinge_loss(h, self.beta)


@dataclass(frozen=True)
class Prospect:
    """KTO on the two responses of a pair; z_0 is the minibatch's mean log-ratio, at least 0, without gradient."""

    beta: float

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        z_0, y = torch.cat([z_a, z_b]).detach().mean().clamp(min=0), mini.y
        won, lost = maths.kto_loss(z_a, z_b, z_0, self.beta), maths.kto_loss(z_b, z_a, z_0, self.beta)
        return y * won + (1 - y) * lost


# -- update ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ThisRound:
    """The pairs of this round."""

    def __call__(self, pairs: Pairs) -> Pairs:
        return pairs


@dataclass(frozen=True)
class AllSoFar:
    """The pairs of every round until now."""

    def begin(self, run: Run) -> Memory:
        from .pairs import Memory

        return Memory()


# -- the language loop's credit.score -------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """A Bradley-Terry reward model, fitted on `labels` pairs of the data before the first round and then frozen."""

    labels: int = 1024
    epochs: int = 2  # passes over a round of pairs
    lr: float | None = None  # None: the loop's own

    def begin(self, run: Run) -> Any:
        from .reward import Fitted

        return Fitted(self, run)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromData().check(task, net, net.context)


@dataclass(frozen=True)
class Ready:
    """A reward that is there already: the folder of a reward model, or ``file.py:function`` as in ``--reward``."""

    reward: str

    def begin(self, run: Run) -> Any:
        from .reward import given

        return given(self.reward, run)
