"""Tiny models of the built-in tasks: character tokenizers, fresh and warm-started weights.

``python -m frugal.language.tiny modchain`` makes the shipped file of a task again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from frugal.lazy import torch

from ..core.errors import BadModel, UnknownName
from .tasks import BUILT_IN, Problem, Task, TinyTask, built_in

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

WEIGHTS = Path(__file__).parent / "tasks" / "weights"
STEPS: Mapping[str, int] = {  # as shipped
    "modchain": 2000,
    "addtrace": 4000,
    "countdown": 2000,
    "two-mode": 2000,
    "overthink": 2000,
    "cipher": 1000,
}
TEACHERS: Mapping[str, int] = {"modchain-teacher": 2048, "addtrace-teacher": 1024}  # samples of GRPO: not yet perfect


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """A tokenizer of one token a character of `alphabet`, after <pad> (0) and <eos> (1); adds and removes nothing."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *dict.fromkeys(alphabet)])}
    plain = Tokenizer(models.WordLevel(vocabulary))
    plain.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        eos_token="<eos>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def fresh_model(task: TinyTask, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """An untrained model of 0.34M float32 parameters over the task's `alphabet`, fixed by `seed`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer(task.alphabet)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.1,  # about 1 / sqrt(width): learns in half the steps that 0.02 takes
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with _seeded(seed):
        return LlamaForCausalLM(config).float().eval(), tokenizer


def load_tiny(name: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The shipped model of a built-in task, by the name of either, or its teacher, in float32. Raises `UnknownName`."""
    name = name.removeprefix("tiny-")
    if name not in (*BUILT_IN, *TEACHERS):
        raise UnknownName("tiny model", f"tiny-{name}", [f"tiny-{known}" for known in (*BUILT_IN, *TEACHERS)])
    path = WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        raise BadModel(f"the weights {path.name} are missing; make them with: python -m frugal.language.tiny {name}")
    return shipped(built_in(name.removesuffix("-teacher")), path)


def shipped(task: TinyTask, path: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The task's tiny model with the weights of a file, in float32."""
    from safetensors.torch import load_file

    model, tokenizer = fresh_model(task)
    model.load_state_dict(load_file(path))  # float16 in the file, copied into float32
    return model, tokenizer


def metadata(name: str) -> dict[str, Any]:
    """What the shipped file says of itself: task, steps, seed, sampled and greedy accuracy, torch version."""
    from safetensors import safe_open

    with safe_open(WEIGHTS / f"{name.removeprefix('tiny-')}.safetensors", "pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}


def warm_start(
    task: TinyTask, steps: int, seed: int = 0, batch: int = 32, learning_rate: float = 3e-3
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A fresh model after next-token training on demonstrations of the train split; the loss is on the responses.

    AdamW, the rate rising over the first tenth and falling to zero. One seed, machine and thread count: the same bits.
    """
    model, tokenizer = fresh_model(task, seed)
    pool, random = task.problems("train"), Random(f"warm start {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / (0.1 * steps), (steps - i) / (0.9 * steps))
    )
    model.train()
    for _ in range(steps):
        ids, labels = [], []
        for problem in random.choices(pool, k=batch):
            prompt = tokenizer.encode(problem.prompt)
            response = tokenizer.encode(task.demonstrate(problem, random)) + [tokenizer.eos_token_id]
            ids.append(torch.tensor(prompt + response))
            labels.append(torch.tensor([-100] * len(prompt) + response))
        loss = model(
            input_ids=torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),  # pads on the right: 0 is <pad>
            labels=torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), tokenizer


def taught(task: str, samples: int, seed: int = 1000) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The task's shipped model after a run of GRPO at 8e-4, the rate that the experiments' tuning found."""
    from .main import Options, run
    from .recipes import grpo

    net = run(grpo(lr=8e-4), task, samples, seed, None, Options(evaluations=1, threads=1)).net
    return net.model, net.tokenizer


def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    problems: Sequence[Problem],
    samples: int = 0,
    seed: int = 0,
) -> float:
    """Mean score on `problems` of `samples` completions each at temperature 1, or of the greedy one where 0."""
    from transformers import GenerationConfig

    settings = GenerationConfig(
        do_sample=samples > 0,
        num_return_sequences=samples or 1,
        max_new_tokens=task.max_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **({"top_k": 0} if samples else {}),
    )
    inputs = tokenizer([p.prompt for p in problems], return_tensors="pt", padding=True)
    with _seeded(seed), torch.no_grad():
        rows = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=settings
        )
    texts = tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    scores = task.score([p for p in problems for _ in range(samples or 1)], texts)
    return sum(scores) / len(scores)


def rebuild(name: str, seed: int = 0) -> dict[str, Any]:
    """Makes the shipped weights of a built-in task, or of its teacher (``modchain-teacher``), again.

    Returns their metadata; takes one or two minutes on one core.
    """
    from safetensors.torch import save_file

    task = built_in(name.removesuffix("-teacher"))
    made = {"samples": TEACHERS[name]} if name in TEACHERS else {"steps": STEPS[name], "seed": seed}
    model, tokenizer = taught(task.name, **made) if name in TEACHERS else warm_start(task, **made)
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)  # rounded as shipped, before it is measured
    facts = {
        "task": task.name,
        **made,
        "sampled": round(accuracy(model, tokenizer, task, task.problems("test"), samples=8), 4),
        "greedy": round(accuracy(model, tokenizer, task, task.problems("test")), 4),
        "torch": torch.__version__.split("+")[0],
    }
    WEIGHTS.mkdir(exist_ok=True)
    save_file(weights, WEIGHTS / f"{name}.safetensors", {key: json.dumps(value) for key, value in facts.items()})
    return facts


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


if __name__ == "__main__":
    for task_name in sys.argv[1:] or BUILT_IN:
        print(rebuild(task_name))
