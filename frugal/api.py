"""What users call: run and resume. Everything heavy is imported inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.recipe import Recipe
from .core.stages import Stages
from .registry import recipe_or_stages as parse

if TYPE_CHECKING:
    from .core.run import Run
    from .language.tasks.task import Task


def run(
    recipe: Recipe | Stages | str,
    task: Task | str,
    *,
    samples: int = 4000,
    seed: int = 0,
    out: Path | str | None = None,
    reporter: Callable[..., None] | None = None,
    **options: Any,
) -> Run:
    """Train with `recipe` on `task` until `samples` are spent; returns the run, its curve and ledger.

    `options` are those of `frugal.language.main.Options`: model, reward, lora, dtype, ... Without `out` nothing is
    written. Raises a `FrugalError` that says what to do.
    """
    from .language.main import Options
    from .language.main import run as run_language

    chosen = parse(recipe) if isinstance(recipe, str) else recipe
    return run_language(chosen, task, samples, seed, out, Options(**options), reporter)


def resume(out: Path | str, *, task: Task | None = None, reporter: Callable[..., None] | None = None) -> Run:
    """Go on with the run in `out` from its newest checkpoint, to the result it would have had.

    `task` is needed only where the run was started from Python with an object of your own.
    """
    from .core.run import read_asked
    from .language.main import Options
    from .language.main import run as run_language

    asked = read_asked(Path(out))
    return run_language(
        parse(asked["recipe"]),
        task or asked["task"],
        asked["samples"],
        asked["seed"],
        out,
        Options(**asked["options"]),
        reporter,
        again=True,
    )
