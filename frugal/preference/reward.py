"""Reward models: a policy's body with a scalar head, as `AutoModelForSequenceClassification` saves and loads it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from frugal.core.errors import BadModel
from frugal.core.run import Run
from frugal.language.fetch import resolve
from frugal.language.gradient import look
from frugal.language.policy import Column, Now, Policy
from frugal.language.rollout import Sampler, judge, rows_of_text
from frugal.language.rows import Ask, Rows
from frugal.language.tasks.files import Table
from frugal.language.tasks.task import Problem
from frugal.language.tasks.watched import Watched

from .parts import Learned

READ = 16  # texts at a time


class RewardNet(Policy):
    """R(x, y) read off the state after the last token of a response; it stands at the last own position of a row.

    What a policy says of tokens it says of responses, so that it is trained by the same loop; it writes nothing.
    """

    writes = False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        head = getattr(model, "score", None)
        if head is None or head.weight.shape[0] != 1:
            raise BadModel("this model has no head named score with one output, so it is no reward model")
        self._assemble(model, tokenizer, model, head)

    def columns(self, rows: Rows, wanted: Mapping[str, Column]) -> Now:
        """R at the last own position, 0 elsewhere. [b,T]"""
        at = torch.arange(rows.tokens.shape[1] + 1) == rows.length[:, None]  # [b,T+1]: just after the end
        longer = rows.put(tokens=torch.cat([rows.tokens, rows.tokens.new_zeros(len(rows), 1)], dim=1))
        value = self.head(self.body.states(longer, at))[:, 0].float()
        return Now(rows.at_end(value), {})

    def values(self, rows: Rows) -> Tensor:
        """R of each row. [B]"""
        return look(rows, self, {}, self.micro_tokens)["logp"].sum(1)

    def copy(self) -> RewardNet:
        return RewardNet(copy.deepcopy(self.model), self.tokenizer)


def from_policy(net: Policy) -> RewardNet:
    """A reward model with the policy's weights below a head of zeros; shares nothing with it."""
    config = copy.deepcopy(net.backbone.config)
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    setattr(model, model.base_model_prefix, copy.deepcopy(net.backbone))
    model.score = torch.nn.Linear(net.head.weight.shape[1], 1, bias=False, dtype=net.head.weight.dtype)
    torch.nn.init.zeros_(model.score.weight)
    return RewardNet(model.requires_grad_(True), net.tokenizer)


def load_reward(name: str) -> RewardNet:
    """A saved reward model, in float32. Raises `BadModel` if there is none."""
    try:
        model = AutoModelForSequenceClassification.from_pretrained(resolve(name), dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(resolve(name))
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot load the reward model {name!r}: {str(error).strip().splitlines()[0]}") from None
    return RewardNet(model.requires_grad_(False), tokenizer)


class ByModel:
    """A saved reward model as oracle: P(a beats b) = sigmoid(R(a) - R(b)); it reads text, with its own tokenizer."""

    def __init__(self, name: str):
        self.net = load_reward(name)

    def __call__(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        r = read(self.net, [*problems, *problems], [*first, *second])
        return torch.sigmoid(r[: len(first)] - r[len(first) :]).tolist()


def read(net: RewardNet, problems: Sequence[Problem], texts: Sequence[str]) -> Tensor:
    """R of responses that are given as text. [B]"""
    prompts = net.encode_all([problem.prompt for problem in problems])
    asks = [Ask(q, prompt, g) for g, (q, prompt) in enumerate(zip(problems, prompts, strict=True))]
    rows = rows_of_text(asks, texts, net, net.context - max(map(len, prompts)))
    with torch.no_grad():  # without the other processes, which have other texts
        pieces = [net.columns(rows.take(piece), {}).logp.sum(1) for piece in torch.arange(len(rows)).split(READ)]
    return torch.cat(pieces)


# -- the reward of rlhf ---------------------------------------------------------------------------------------


class Fitted:
    """The reward model of `Learned` at work: fits itself when it is first asked; its labels are charged to the run."""

    def __init__(self, chosen: Learned, run: Run):
        self.chosen, self.run, self.net, self.fitted = chosen, run, from_policy(run.net), False

    def __call__(self, rows: Rows, sampler: Any = None) -> Rows:
        """The rows with R as the score of those that have none."""
        if not self.fitted:
            self.fit()
        return by_tokens(self.net, rows)

    def fit(self) -> None:
        from .loop import train
        from .recipes import reward_model

        run, settings = self.run, {} if self.chosen.lr is None else {"lr": self.chosen.lr}
        inner = Run(self.chosen.labels, run.seed)
        recipe = reward_model(epochs=self.chosen.epochs, **settings)
        train(recipe, run.task, self.net, inner, Silent(self.net.context))
        run.ledger.add(inner.ledger)
        self.net.model.requires_grad_(False)
        self.fitted = True

    def state_dict(self) -> dict[str, Any]:
        return {"fitted": self.fitted, **(self.net.model.state_dict() if self.fitted else {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fitted = bool(state["fitted"])
        if self.fitted:
            self.net.model.load_state_dict({name: value for name, value in state.items() if name != "fitted"})
            self.net.model.requires_grad_(False)


@dataclass(frozen=True)
class Silent:
    """No evaluation."""

    limit: int

    def when_due(self, net: Policy, run: Run, last: bool = False) -> None:
        pass


def given(reward: str, run: Run) -> Callable[[Rows, Sampler], Rows]:
    """A reward that is there already: the folder of a reward model, or ``file.py:function`` as in ``--reward``."""
    scores: Any
    if ".py:" in reward:
        scores = Table(reward, (), Watched(reward))
    else:
        net = load_reward(reward)
        if net.tokenizer.get_vocab() == run.net.tokenizer.get_vocab():
            return lambda rows, sampler: by_tokens(net, rows)
        scores = ReadsText(net)
    return lambda rows, sampler: judge(scores, sampler.net, rows, sampler.spent)


def by_tokens(net: RewardNet, rows: Rows) -> Rows:
    """The rows with R as the score of those that have none."""
    return rows.put(score=torch.where(rows.score.isnan(), net.values(rows), rows.score))


@dataclass(frozen=True)
class ReadsText:
    """A reward model whose tokenizer is not the policy's, as what scores text."""

    net: RewardNet
    name: str = "the reward model"

    def score(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[float]:
        return read(self.net, problems, texts).tolist()  # type: ignore[no-any-return]
