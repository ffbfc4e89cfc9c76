"""A model of a few thousand weights, tasks of a few letters, and runs that a test can look into."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from frugal.core.ledger import Spent
from frugal.core.optimiser import Optimiser
from frugal.core.recipe import Patch, Recipe
from frugal.core.run import Run
from frugal.language import loop
from frugal.language.evaluate import Evaluation
from frugal.language.policy import Policy
from frugal.language.rollout import Sampler, judge
from frugal.language.rows import Ask, Rows
from frugal.language.tasks.task import Problem
from frugal.language.tiny import character_tokenizer

PAD, EOS = 0, 1  # then the letters a to f, 2 to 7
VOCABULARY = 8


class Letters:
    """Prompts of one to four letters; the score is the share of a's. Lengths and scores differ."""

    name = "letters"
    max_tokens = 6

    def problems(self, split):
        return [Problem("abcdef"[i % 6] + "cab"[: i % 4]) for i in range(12)]

    def score(self, problems, completions):
        return [text.count("a") / self.max_tokens for text in completions]


class Dialogue(Letters):
    """Up to three turns of the policy, with two words of the environment between them."""

    name = "dialogue"
    max_tokens = 12

    def reply(self, problem, turns):
        return "fe" if len(turns) < 3 else None

    def score(self, problems, completions):
        return [sum(turn.count("a") for turn in turns) / self.max_tokens for turns in completions]


@dataclass
class Constant(Letters):
    """Every response scores the same."""

    value: float = 0.0

    def score(self, problems, completions):
        return [self.value] * len(completions)


def tiny_model(seed: int = 4, **config: Any) -> LlamaForCausalLM:
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**sizes | config))


def policy(seed: int = 4, **config: Any) -> Policy:
    return Policy(tiny_model(seed, **config), character_tokenizer("abcdef"))


def saved(folder: Path, seed: int = 4, **config: Any) -> str:
    """The path of a folder that holds the tiny model and its tokenizer."""
    net = policy(seed, **config)
    net.model.save_pretrained(folder), net.tokenizer.save_pretrained(folder)
    return str(folder)


def weights(net: Policy) -> Tensor:
    """Every weight, in one vector."""
    return torch.cat([p.detach().flatten().clone() for p in net.model.parameters()])


def launch(recipe: Recipe, task: Any = None, net: Policy | None = None, samples: int = 8, **options: Any) -> Run:
    """One run of the public loop, in the existing folder `out` if there is one; `run.net` is the trained policy."""
    task = task or Letters()
    evaluation = Evaluation(task, task.max_tokens, options.pop("evaluations", 1), problems=2, k=1)
    run = Run(samples, options.pop("seed", 0), options.pop("out", None))
    loop.train(recipe, task, net or policy(), run, evaluation, **options)
    return run


def sampled(net: Policy, task: Any = None, groups: int = 2, n: int = 4, seed: int = 0) -> Rows:
    """Scored rows that the policy sampled for the task's first problems."""
    task = task or Letters()
    asks = [Ask(q, net.encode(q.prompt), g, n) for g, q in enumerate(task.problems("train")[:groups])]
    sampler = Sampler(net, task, Spent(), limit=task.max_tokens)
    return judge(task, net, sampler(asks, torch.Generator().manual_seed(seed)), Spent())


# -- parts to look in with ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Given:
    """Rows that are not sampled but given."""

    rows: Rows

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        sampler.spent.samples += len(self.rows)
        return self.rows.put(drawn=torch.zeros_like(self.rows.drawn))  # perhaps by another policy


def given(rows: Rows) -> Patch:
    return Patch(fill={"act.collect": Given(rows)}, name="given")


@dataclass(frozen=True, eq=False)
class Spy:
    """Remembers what every objective saw, and masks nothing."""

    seen: list
    needs: dict = field(default_factory=dict)

    def __call__(self, now: Any, mini: Rows) -> Tensor:
        self.seen.append((now, mini))
        return torch.ones_like(mini.use)


def spy(seen: list, **needs: Any) -> Patch:
    """`needs` are columns such as old_entropy=..., asked for as old.entropy."""
    return Patch(
        add={"update.mask": Spy(seen, {k.replace("_", ".", 1): v for k, v in needs.items()})},
        name="spy",
    )


def listening(recipe: Recipe, other: Recipe) -> Recipe:
    """`recipe`, asking for the columns that `other` asks for: what nobody asks for is computed by shorter ways."""
    needs = {name.replace(".", "_", 1): column for name, column in other.needs().items()}
    return recipe + spy([], **needs) if needs else recipe


@contextmanager
def gradients() -> Iterator[list[dict[str, Tensor]]]:
    """The gradient that each optimiser step is given, {name: tensor}, in order."""
    seen: list[dict[str, Tensor]] = []
    step = Optimiser.step

    def watched(self: Optimiser, *args: Any, **named: Any) -> float:
        seen.append({name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None})
        return step(self, *args, **named)

    with mock.patch.object(Optimiser, "step", watched):
        yield seen


@contextmanager
def reference_is(other: Policy) -> Iterator[None]:
    """Make another policy the reference, so that the penalty is not zero at the first step."""
    with mock.patch.object(Policy, "freeze_reference", lambda net: setattr(net, "reference", other)):
        yield


def second_step(recipe: Recipe, rows: Rows, net: Policy, task: Any = None) -> tuple[dict[str, Tensor], float]:
    """Gradient and loss of given rows with the old log-probabilities that they come with.

    At its first step the loop takes the present ones for old, so the recipe has two epochs and a learning rate of 0.
    """
    losses: list[float] = []
    real = loop.accumulate
    watch = mock.patch.object(loop, "accumulate", lambda *a, **k: losses.append(real(*a, **k)) or losses[-1])
    with gradients() as seen, watch:
        launch(recipe + given(rows), task, net, samples=len(rows))
    assert len(seen) == len(losses) == 2
    return seen[1], losses[1]


# -- by hand --------------------------------------------------------------------------------------------------


def exact(net: Policy) -> LlamaForCausalLM:
    """The same model in float64 (its norms and rotations are float32 inside, so it is good to about 1e-6)."""
    return copy.deepcopy(net.model).double()


def by_hand(
    model: LlamaForCausalLM, prompt: Sequence[int], response: Sequence[int], temperature: float = 1.0
) -> Tensor:
    """log pi of every response token by one plain, unpadded forward pass of the whole text. [T]"""
    ids = torch.tensor([[*prompt, *response]])
    logp = (model(ids).logits[0] / temperature).log_softmax(-1)
    return logp[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]


def each_by_hand(model: LlamaForCausalLM, rows: Rows, temperature: float = 1.0) -> list[Tensor]:
    """log pi of the own tokens of each row, a list of [n_b]."""
    return [
        by_hand(model, prompt, tokens[:n].tolist(), temperature)[own[:n]]
        for prompt, tokens, own, n in zip(rows.prompts, rows.tokens, rows.own, rows.length.tolist(), strict=True)
    ]


def assert_gradient(seen: dict[str, Tensor], loss: Tensor, model: LlamaForCausalLM, rtol: float = 1e-5) -> None:
    """`seen` is the gradient of `loss`, taken on `model`, and not zero.

    A float32 gradient is a sum of terms as large as its largest entry, so its error is relative to that one.
    """
    names = dict(model.named_parameters())
    wanted = dict(zip(names, torch.autograd.grad(loss, list(names.values()), retain_graph=True), strict=True))
    assert seen.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for g in wanted.values())
    assert largest > 1e-4
    for name, g in wanted.items():
        torch.testing.assert_close(
            seen[name].double(), g.double(), rtol=rtol, atol=rtol * largest, msg=lambda m, name=name: f"{name}: {m}"
        )
