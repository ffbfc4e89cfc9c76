"""What users call: run and resume. Everything heavy is imported inside."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.recipe import Recipe
from .core.stages import Stages
from .registry import check_options, host
from .registry import options as options_of
from .registry import recipe_or_stages as parse

if TYPE_CHECKING:
    from .core.run import Run


def run(
    recipe: Recipe | Stages | str,
    task: Any,
    *,
    samples: int = 4000,
    seed: int = 0,
    out: Path | str | None = None,
    reporter: Callable[..., None] | None = None,
    **options: Any,
) -> Run:
    """Train with `recipe` on `task` until `samples` are spent; returns the run, its curve and ledger.

    `task` is a name or an object: a language task, or a Gymnasium environment or a function that makes one.
    `options` are those of the recipe's domain, such as `frugal.language.options.Options`: model, reward, lora, ...
    Without `out` nothing is written. Raises a `FrugalError` that says what to do.
    """
    chosen = parse(recipe, task) if isinstance(recipe, str) else recipe
    domain = host(chosen, task).name
    made = options_of(domain)(**check_options(domain, options))
    return import_module(f"frugal.{domain}.main").run(chosen, task, samples, seed, out, made, reporter)  # type: ignore[no-any-return]


def resume(out: Path | str, *, task: Any = None, reporter: Callable[..., None] | None = None) -> Run:
    """Go on with the run in `out` from its newest checkpoint, to the result it would have had.

    `task` is needed only where the run was started from Python with an object of your own.
    """
    from .core.run import read_asked

    asked = read_asked(Path(out))
    recipe = parse(asked["recipe"])
    domain = asked["domain"]
    return import_module(f"frugal.{domain}.main").run(  # type: ignore[no-any-return]
        recipe,
        task if task is not None else asked["task"],
        asked["samples"],
        asked["seed"],
        out,
        options_of(domain)(**asked["options"]),
        reporter,
        again=True,
    )
