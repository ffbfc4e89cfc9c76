"""One run of the language domain, from names to a finished directory."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from frugal.core import machine, parallel
from frugal.core.errors import BadTask
from frugal.core.recipe import Recipe
from frugal.core.run import Run
from frugal.core.stages import Stage, Stages, as_stages
from frugal.registry import code, host

from .evaluate import Evaluation
from .loop import settled, train
from .models import load, load_others
from .options import Options
from .policy import Policy
from .tasks.find import find_task
from .tasks.task import Task


@dataclass(frozen=True)
class Kit:
    """What a domain whose policies are language models brings to `run`."""

    find: Callable[..., Task] = lambda name, options=None: find_task(name, options and options.reward)
    load: Callable[..., tuple[Any, Any]] = load
    loop: Callable[[Recipe], Callable[..., None]] = lambda recipe: train
    evaluation: Callable[..., Any] = lambda task, limit, options, model, tokenizer: Evaluation(
        task, limit, options.evaluations, options.eval_problems, options.eval_k
    )


def run(
    recipe: Recipe | Stages,
    task: Task | str,
    samples: int,
    seed: int,
    out: Path | str | None,
    options: Options,
    reporter: Callable[..., None] | None = None,
    again: bool = False,
    kit: Kit = Kit(),
) -> Run:
    """Train from scratch, or (`again`) from the newest checkpoint in `out`. Returns the run with its curve."""
    machine.prepare(options.threads)
    parallel.begin()
    record = Run(samples, seed, out, reporter=reporter)
    record.domain = host(recipe, task)
    final = kit.find(task, options) if isinstance(task, str) else task
    name = options.model or getattr(final, "model", None)
    if name is None:
        raise BadTask(f"{final.name} has no model of its own; name one: --model smollm2 (or a folder, or a hub name)")
    model, tokenizer = kit.load(name, options.dtype, options.lora, seed, options.trust_remote_code)
    if parallel.size > 1:
        parallel.agree(hash(sum(float(p.detach().sum(dtype=torch.float64)) for p in model.parameters())), "the weights")
    limit, stages = options.max_tokens or final.max_tokens, as_stages(recipe)
    tasks = [_task_of(stage, final, kit) for stage in stages.stages]
    others = []
    for stage, on in zip(stages.stages, tasks, strict=True):
        net = stage.recipe.parts["learn.policy"](model, tokenizer)
        check(stage.recipe, on, net, limit)
        others.append(load_others(stage.recipe, name, net))
    ends = stages.ends(samples)
    if again:
        record.load()
    else:
        task_name = task if isinstance(task, str) else final.name
        named = dataclasses.replace(options, model=name)
        record.create(asked(recipe, task_name, samples, seed, named, model.num_parameters()))
    evaluation = kit.evaluation(final, limit, options, model, tokenizer)
    with record.interruptible():
        for i in range(record.stage, len(ends)):
            net = stages.stages[i].recipe.parts["learn.policy"](model, tokenizer)
            net.others = others[i]
            record.enter(i, ends[i - 1] if i else 0, ends[i])
            train_by = kit.loop(stages.stages[i].recipe)
            train_by(stages.stages[i].recipe, tasks[i], net, record, evaluation, options.micro_tokens)
    if record.writes_to:
        disable_progress_bar()
        record.save_model(lambda folder: (record.net.model.save_pretrained(folder), tokenizer.save_pretrained(folder)))
    return record


def _task_of(stage: Stage, final: Task, kit: Kit) -> Task:
    if stage.task is None:
        return final
    return kit.find(stage.task) if isinstance(stage.task, str) else stage.task


def check(recipe: Recipe, task: Task, net: Policy, limit: int) -> None:
    """Raise `BadTask` on what would fail in the middle of a run: too few problems, empty or too long prompts."""
    recipe.check()
    s = settled(recipe.settings, limit, net).at(0.0)
    pool, test = list(task.problems("train")), list(task.problems("test"))
    if not test:
        raise BadTask(f"{task.name} has no test problems; accuracy is always measured on held-out ones")
    if len(pool) < s.prompts:
        raise BadTask(
            f"{task.name} has {len(pool)} training problems and a round takes {s.prompts}; "
            f"give more, or {recipe.base.name}(prompts={max(len(pool), 1)})"
        )
    for i, problem in enumerate(pool + test):
        if not problem.prompt:
            raise BadTask(f"{task.name}: the prompt of problem {i} is empty")
    for i, prompt in enumerate(net.encode_all([problem.prompt for problem in pool + test])):
        n = len(prompt)
        if n == 0 or n + s.max_tokens > net.context:
            raise BadTask(
                f"{task.name}: the prompt of problem {i} has {n} tokens, and with max_tokens={s.max_tokens} "
                f"the model's context holds {net.context}; shorten it or set max_tokens"
            )
    for part in recipe.parts.values():
        if hasattr(part, "check"):
            part.check(task, net, s.max_tokens)


def asked(
    recipe: Recipe | Stages, task: str, samples: int, seed: int, options: Options, parameters: int
) -> dict[str, Any]:
    """What goes into run.json."""
    import transformers

    import frugal

    return {
        **recipe.as_data(),
        "domain": host(recipe, task).name,
        "task": task,
        "samples": samples,
        "seed": seed,
        "processes": parallel.size,
        "parameters": parameters,
        "options": dataclasses.asdict(dataclasses.replace(options, threads=torch.get_num_threads())),
        "versions": {
            "frugal": frugal.__version__,
            "code": code(recipe),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
