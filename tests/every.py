"""What the contract and pair suites share: all methods found, and a run small enough to repeat often."""

import importlib
from itertools import combinations
from types import ModuleType

import torch

import frugal
from frugal.core.recipe import Recipe
from frugal.registry import bases, is_staged, methods, usual_task
from frugal.registry import recipe as parse
from tests.control import tinyrun

DOMAIN = {slug: module.split(".")[1] for slug, module in methods().items() if not is_staged(slug)}  # patches
LANGUAGE = [slug for slug, domain in DOMAIN.items() if domain == "language"]
BASES = {name: make().domain.name for name, make in bases().items()}
PAIRS = [(a, b) for a, b in combinations(sorted(DOMAIN), 2) if DOMAIN[a] == DOMAIN[b]]


def module(slug: str) -> ModuleType:
    return importlib.import_module(methods()[slug])


def task_of_pair(a: str, b: str) -> str:
    """What two methods are tried on together: of control, the environment that one of them names."""
    return "" if DOMAIN[a] == "language" else getattr(module(a), "TASK", getattr(module(b), "TASK", ""))


def run_small(recipe: Recipe | str, seed: int = 0, rounds: int = 2, task: str = "", **more):
    """A run of a few rounds: 4 prompts x 8 responses of the shipped model, or 100 steps of an environment."""
    made = parse(recipe) if isinstance(recipe, str) else recipe
    language = made.domain.name != "control"
    options = {"evaluations": 1, "threads": 1, "eval_problems" if language else "eval_episodes": 4 if language else 1}
    task = task or usual_task(made.base.name)
    return frugal.run(made, task, samples=(32 if language else 100) * rounds, seed=seed, **options, **more)


def weights_after(recipe: Recipe | str, seed: int = 0, rounds: int = 2, task: str = "") -> torch.Tensor:
    """All weights after a small run, as one vector."""
    run = run_small(recipe, seed, rounds, task)
    if run.domain.name == "control":
        return tinyrun.weights(run)
    return torch.cat([p.detach().flatten() for p in run.net.model.parameters()])


def small(text: str) -> str:
    """The recipe with its base made small: a few rows a round, and a step large enough to see."""
    base, plus, patches = text.partition("+")
    name, _, settings = base.removesuffix(")").partition("(")
    if BASES[name] == "control":
        return f"{tinyrun.small(base)}{plus}{patches}"
    size = "prompts=32" if BASES[name] == "preference" or name in ("ppo", "sft") else "prompts=4, group=8"
    size = f"labels=32, {size}" if name == "rlhf" else size
    return f"{name}({', '.join(filter(None, (size, 'lr=1e-3', settings)))}){plus}{patches}"
