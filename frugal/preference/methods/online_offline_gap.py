"""One loss on the policy's own samples, on fixed pairs, and on what another run has sampled: who does best, and why.

Changes      credit.label: a Bradley-Terry reward model, fitted on `labels` pairs of the data before the first round and
             then frozen, says who wins; of equal rewards nobody does
             act.answers, with `shuffled`: the pairs, in random order and with their labels, that the same recipe met
             when it ran online with the same budget before the first round; with `last` only that share of them which
             came last, from a policy that was better by then, as often as the budget asks for
             learn.loss, with `clone`: -log pi of the winner instead of the base's contrastive loss
Source       Understanding the performance gap between online and offline alignment algorithms, Tang et al. 2024,
             arXiv 2405.08448: the online side learns from a proxy of the preferences that label the fixed pairs; its
             hypotheses of coverage (`shuffled`), of quality (`last`) and of the contrastive loss (`clone`, best of 2).
             The fourth, that offline policies are the better classifiers, stands beside every result as accuracy
Ours         the table is the experiment: `frugal prove online-offline-gap` prints it. The labels on which the reward
             model is fitted are charged as labels, its own comparisons as samples; the run that came before is charged
             in everything but samples, since its pairs are then the data. The paper's fifth hypothesis, size, is left
             to the user: `--model`
Leans on     a base that compares log-ratios (`online-dpo`, `dpo`), and with `shuffled` its own samples (`online-dpo`)
Experiment   experiments/preference/online_offline_gap.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, RunFailed
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch
from frugal.preference.parts import EachPair, FromPolicy, Learned

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Task
    from frugal.preference.oracles import Asking
    from frugal.preference.pairs import Memory, Pairs

BASE = "online-dpo"
NEUTRAL = {"labels": 0}
NAME = "online-offline-gap"


@dataclass(frozen=True)
class Proxy:
    """Every two responses of a prompt, labelled by a reward model that is fitted first."""

    labels: int

    def begin(self, run: Any) -> LiveProxy:
        from frugal.preference.reward import Fitted

        return LiveProxy(Fitted(Learned(self.labels), run))

    def check(self, task: Task, net: Policy, limit: int) -> None:
        Learned(self.labels).check(task, net, limit)


class LiveProxy:
    """The reward model at work, whatever the data say."""

    def __init__(self, fitted: Any):
        self.fitted = fitted
        self.state_dict, self.load_state_dict = fitted.state_dict, fitted.load_state_dict

    def __call__(self, rows: Rows, ask: Asking) -> Pairs:
        R = self.fitted(rows.put(score=torch.full_like(rows.score, torch.nan))).score

        def larger(rows: Rows, a: Tensor, b: Tensor) -> Tensor:
            return ask.charge(torch.where(R[a] == R[b], torch.nan, (R[a] > R[b]).float()))

        return EachPair()(rows, larger)


@dataclass(frozen=True)
class AsRecorded:
    """Who won when the pair was met, which was charged as a label then."""

    def __call__(self, rows: Rows, ask: Asking) -> Pairs:
        return EachPair()(rows, lambda rows, a, b: ask.charge((rows.score[a] > rows.score[b]).float()))


@dataclass(frozen=True)
class Shuffled:
    """The pairs of an online run, which comes first, in random order."""

    last: float

    def begin(self, run: Any) -> Recorded:
        return Recorded(self, run)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromPolicy().check(task, net, limit)


class Recorded:
    """Makes the online run when it is first asked, and then hands out its pairs."""

    def __init__(self, chosen: Shuffled, run: Any):
        from frugal.preference.pairs import Memory

        self.chosen, self.run = chosen, run
        self.memory: Memory = Memory()
        self.order: list[int] = []

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        """A recorded pair for each ask, whatever its prompt; the winner's score is 1, the other's 0."""
        if self.memory.pairs is None:
            self.record(sampler.limit)
        pairs = self.memory.pairs
        if pairs is None:
            raise RunFailed(f"{NAME}: the run that came before met no two responses of which one is better")
        while len(self.order) < len(asks):
            first = len(pairs) - max(round(self.chosen.last * len(pairs)), 1)
            self.order += (first + torch.randperm(len(pairs) - first, generator=rng)).tolist()
        here, self.order = torch.tensor(self.order[: len(asks)]), self.order[len(asks) :]
        rows = pairs.rows.take(torch.stack([pairs.a[here], pairs.b[here]], dim=1).flatten())
        return rows.put(
            group=torch.arange(len(here)).repeat_interleave(2),
            score=torch.stack([pairs.y[here], 1 - pairs.y[here]], dim=1).flatten(),
            drawn=torch.zeros_like(rows.drawn),
        )

    def record(self, limit: int) -> None:
        """Run the recipe online on a copy of the policy, which is thrown away."""
        from frugal.core.run import Run
        from frugal.preference.loop import train
        from frugal.preference.reward import Silent

        run, net = self.run, self.run.net.copy()
        inner = Run(run.left(), run.seed)
        train(online(run.recipe) + recording(self.memory), run.task, net, inner, Silent(limit))
        run.ledger.add(inner.ledger)

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, **self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order = list(state["order"])
        self.memory.load_state_dict({name: value for name, value in state.items() if name != "order"})


def online(recipe: Any) -> Any:
    """The recipe with its patch of this file as it is without `shuffled`."""
    mine = {"shuffled", "last"}
    patches = tuple(
        online_offline_gap(**{k: v for k, v in p.args.items() if k not in mine}) if p.name == NAME else p
        for p in recipe.patches
    )
    return dataclasses.replace(recipe, patches=patches)


@dataclass(frozen=True, eq=False)
class Recording:
    """This round's pairs, which it remembers."""

    memory: Memory

    def __call__(self, pairs: Pairs) -> Pairs:
        self.memory(pairs)
        return pairs


def recording(memory: Memory) -> Patch:
    return Patch(fill={"update.memory": Recording(memory)}, name="recording", domain="preference")


@dataclass(frozen=True)
class Cloning:
    """-z of the winner, whose gradient is that of -log pi. [n]"""

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        return -(mini.y * z_a + (1 - mini.y) * z_b)


@patch
def online_offline_gap(labels: int = 1024, shuffled: bool = False, last: float = 1.0, clone: bool = False) -> Patch:
    """The study's switches: a reward model fitted on `labels` pairs (0: the oracle), recorded pairs, cloning."""
    if labels < 0 or not 0 < last <= 1 or (last < 1 and not shuffled):
        raise BadRecipe(
            f"online-offline-gap(labels={labels}, last={last}): give 0 or more labels, and with shuffled=True a share "
            "above 0 and up to 1"
        )
    return Patch(
        fill={
            **({"credit.label": Proxy(labels)} if labels and not shuffled else {}),
            **({"act.answers": Shuffled(last), "credit.label": AsRecorded()} if shuffled else {}),
            **({"learn.loss": Cloning()} if clone else {}),
        },
        leans_on={
            "compares log-ratios": "it is about losses on a policy's log-probabilities",
            **({"compares its own samples": "what it records is the policy's own"} if shuffled else {}),
        },
        silences=("group",) if shuffled else (),
        optional={"credit.label": "labels=0", "learn.loss": "clone=False", "act.answers": "shuffled=False"},
        domain="preference",
    )
