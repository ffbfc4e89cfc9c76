"""One run of the preference domain, or of a language recipe on one of its tasks: the language domain's `run`.

What differs: where tasks and tiny models are found, the loop of recipes of pairs, and what is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from frugal.core.recipe import Recipe
from frugal.language import loop as language_loop
from frugal.language import main, models
from frugal.language.policy import Policy
from frugal.language.tasks.task import Task
from frugal.language.tiny import load_tiny as language_tiny

from . import loop
from .evaluate import Evaluation
from .options import Options
from .tasks import BUILT_IN
from .tasks.find import find_task
from .tasks.tiny import load_tiny


def _loop(recipe: Recipe) -> Callable[..., None]:
    return loop.train if recipe.domain.loop == "pairs" else language_loop.train


def _load(name: str, dtype: str, lora: int, seed: int, trust_remote_code: bool) -> tuple[Any, Any]:
    """As `models.load`, with the tiny models of this domain's tasks."""
    tiny = load_tiny if name.removeprefix("tiny-") in BUILT_IN else language_tiny
    return models.load(name, dtype, lora, seed, trust_remote_code, tiny)


def _evaluation(task: Task, limit: int, options: Options, model: Any, tokenizer: Any) -> Evaluation:
    start = Policy(model, tokenizer)
    start.freeze_reference()
    times, problems, k = options.evaluations, options.eval_problems, options.eval_k
    return Evaluation(task, limit, times, problems, k, start, options.micro_tokens)


KIT = main.Kit(find=find_task, load=_load, loop=_loop, evaluation=_evaluation)
run = functools.partial(main.run, kit=KIT)
