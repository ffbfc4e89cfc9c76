"""One run of the control domain, from names to a finished directory."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from frugal.core import machine, parallel
from frugal.core.errors import BadRecipe, BadRun, BadTask
from frugal.core.recipe import Recipe
from frugal.core.run import Run, read_asked
from frugal.core.stages import Stages, task_name
from frugal.registry import code

from . import loop_off, loop_on
from .env import Environments, environments
from .evaluate import Evaluation
from .find import find_environment
from .net import Net, heart
from .options import Options
from .policy import save
from .spaces import Spaces

LOOPS = {"off-policy": loop_off.train, "on-policy": loop_on.train}
SIDE_BY_SIDE = 10  # environments of an evaluation, at most
EVALUATION_SEED = 1  # odd, training has even ones; of every run, so that all are asked the same


def run(
    recipe: Recipe | Stages,
    task: Any,
    samples: int,
    seed: int,
    out: Path | str | None,
    options: Options,
    reporter: Callable[..., None] | None = None,
    again: bool = False,
) -> Run:
    """Train from scratch, or (`again`) from the newest checkpoint in `out`. Returns the run with its curve."""
    if parallel.launched() > 1:
        raise BadRun("a controller's run is one process; start it without a launcher, or compare with --processes N")
    if isinstance(recipe, Stages):
        raise BadRecipe(f"{recipe}: runs of the control domain have one stage")
    machine.prepare(options.threads)
    record = Run(samples, seed, out, reporter=reporter)
    record.domain, name = recipe.domain, task_name(task)
    make = find_environment(task)
    columns = sorted({column for part in recipe.parts.values() for column in getattr(part, "columns", ())})
    env = environments(make, recipe.settings.at(0.0).envs, 2 * seed, name, columns, options.step_seconds)
    beside = 1 if env.vector else min(options.eval_episodes, SIDE_BY_SIDE)
    other = environments(make, beside, EVALUATION_SEED, name, seconds=options.step_seconds)
    for one in (env, other):
        one.stopped = f"; earlier checkpoints are intact: frugal resume {out}" if out else ""
    check(recipe, env)
    record.env, record.spaces = env, env.spaces
    if again:
        was = read_asked(Path(str(out)))
        if (was["task"], Spaces.from_data(was["spaces"])) != (name, env.spaces):
            raise BadRun(
                f"{out} holds a run on {was['task']}, and {name} is another environment; go on with its own, or begin "
                "a new run"
            )
        record.load()
    else:
        size = Net(recipe, env.spaces, record).size
        record.create(asked(recipe, name, samples, seed, options, size, env))
    evaluation = Evaluation(other, options.evaluations, options.eval_episodes)
    try:
        with record.interruptible():
            live = LOOPS[recipe.domain.loop](recipe, env, record, evaluation)
    except (BadTask, BadRun):  # a part cannot work on this environment, or lacks a file
        record.withdraw()
        raise
    finally:
        env.close()
        other.close()
    if record.writes_to:
        record.save_model(lambda folder: save(folder, record.net, live, recipe, name))
    return record


def check(recipe: Recipe, env: Environments) -> None:
    """Raise `BadTask` on what would fail in the middle of a run: actions that a recipe cannot choose."""
    recipe.check()
    needs = heart(recipe.parts["learn.policy"]).accepts(env.spaces)
    if needs:
        fits = "sac, td3, control.ppo or a2c" if env.spaces.continuous else "dqn, control.ppo or a2c"
        fits = "control.ppo or a2c" if len(env.spaces.choices) > 1 else fits
        raise BadTask(f"{recipe.base.name} takes {needs}, and {env.name} has {env.action_space}; take {fits}")
    encoder = heart(recipe.parts["learn.encoder"])
    if encoder.normalise and env.spaces.pixels:
        raise BadTask(
            f"{env.name} has pictures, which are divided by 255 and not normalised by what was seen; leave out "
            "normalise=True, or the patch that sets it"
        )
    view = encoder.view
    if view is not None and not env.spaces.pixels:
        raise BadTask(f"shift={view.pad} moves pictures, and {env.name} has none; leave it out")
    if env.vector and getattr(recipe.settings, "steps", 1) == 0:
        raise BadTask(
            f"{recipe.base.name} waits until every environment has ended its episode, and those of {env.name} go on by "
            "themselves; give a function that makes one environment, and envs=N"
        )


def asked(
    recipe: Recipe, task: str, samples: int, seed: int, options: Options, parameters: int, env: Environments
) -> dict[str, Any]:
    """What goes into run.json."""
    import gymnasium

    import frugal

    return {
        **recipe.as_data(),
        "domain": recipe.domain.name,
        "task": task,
        "samples": samples,
        "seed": seed,
        "processes": 1,
        "parameters": parameters,
        "spaces": env.spaces.as_data(),
        "options": dataclasses.asdict(dataclasses.replace(options, threads=torch.get_num_threads())),
        "versions": {
            "frugal": frugal.__version__,
            "code": code(recipe),
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "python": platform.python_version(),
        },
    }
