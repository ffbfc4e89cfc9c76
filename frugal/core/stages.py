"""Staged methods: a tuple of (recipe, samples, task), the weights passed on. Runs, compares and resumes like a recipe.

As text: ``sft:1000 then grpo+ead`` or ``grpo:0.5@addtrace then grpo``, half of the budget; the last stage takes what is
left of it, and a stage without a task takes the run's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import BadRecipe
from .recipe import Domain, Recipe, bind


@dataclass(frozen=True)
class Stage:
    """One stage: `samples` of the budget (below 1: a share; None: what is left) on `task` (None: the run's)."""

    recipe: Recipe
    samples: float | None = None
    task: Any = None  # a name, or a task object in Python

    def __str__(self) -> str:
        budget = f":{self.samples}" if self.samples is not None else ""
        task = f"@{task_name(self.task)}" if self.task is not None else ""
        return f"{self.recipe}{budget}{task}"


@dataclass(frozen=True)
class Stages:
    """Stages in order; all but the last say how many samples they take."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise BadRecipe("stages are empty; give at least one")
        for stage in self.stages[:-1]:
            if not stage.samples:
                raise BadRecipe(f"the stage {stage} does not say how many samples it takes; write {stage.recipe}:1000")
        if len({stage.recipe.domain.kin for stage in self.stages}) > 1:
            raise BadRecipe(f"{self}: all stages of a run train one kind of policy")

    def __str__(self) -> str:
        return " then ".join(map(str, self.stages))

    @property
    def domain(self) -> Domain:
        """That of the first stage; of a family, the one that has come to it, since it knows the other."""
        domains = [stage.recipe.domain for stage in self.stages]
        return next((domain for domain in domains if domain.family), domains[0])

    def as_data(self) -> dict[str, Any]:
        """JSON-ready: the text that rebuilds it, and each stage's parts for the reader."""
        return {"recipe": str(self), "stages": [stage.recipe.as_data() for stage in self.stages]}

    def ends(self, samples: int) -> list[int]:
        """Samples at which each stage ends, for a budget of `samples`. Raises `BadRecipe` if they do not fit."""
        ends: list[int] = []
        for stage in self.stages:
            wanted = stage.samples or 0
            wanted = round(wanted * samples) if wanted < 1 else int(wanted)
            ends.append((ends[-1] if ends else 0) + wanted if stage.samples else samples)
        if ends[-1] != samples or any(b <= a for a, b in zip([0, *ends], ends, strict=False)):
            raise BadRecipe(f"{self}: the stages end at {ends} samples, and the budget is {samples}")
        return ends


def task_name(task: Any) -> str:
    """What a task is called: a name as it is, an object by its name, an environment by its id."""
    if isinstance(task, str):
        return task
    names = (getattr(task, "name", None), getattr(getattr(task, "spec", None), "id", None))
    return str(next((name for name in names if name), None) or getattr(task, "__name__", type(task).__name__))


def as_stages(recipe: Recipe | Stages) -> Stages:
    """A recipe as its only stage."""
    return recipe if isinstance(recipe, Stages) else Stages((Stage(recipe),))


def split_stage(text: str) -> tuple[str, float | None, str | None]:
    """``recipe[:samples][@task]`` in its three pieces."""
    match = re.fullmatch(r"\s*(.+?)(?::(\d+|0?\.\d+))?(?:@(\S+))?\s*", text)
    if match is None:
        raise BadRecipe(f"{text!r} is no stage; write recipe, recipe:samples or recipe:samples@task")
    samples = match.group(2)
    return (
        match.group(1),
        None if samples is None else float(samples) if "." in samples else int(samples),
        match.group(3),
    )


def staged(function: Callable[..., Stages]) -> Callable[..., Stages]:
    """Decorator of a staged method: an option that it does not have is named, as that of a recipe is."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Stages:
        bind(function.__name__.replace("_", "-"), function, args, kwargs)
        return function(*args, **kwargs)

    return make
