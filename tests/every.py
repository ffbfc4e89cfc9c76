"""What the contract and pair suites share: all methods found, and a run small enough to repeat often."""

import importlib
from types import ModuleType

import torch

import frugal
from frugal.core.recipe import Recipe
from frugal.registry import methods

LANGUAGE = {slug: module for slug, module in methods().items() if module.startswith("frugal.language.")}


def module(slug: str) -> ModuleType:
    return importlib.import_module(LANGUAGE[slug])


def base_of(slug: str) -> str:
    """The base that a method is tested on: grpo, unless its file names another one, perhaps with settings."""
    return getattr(module(slug), "BASE", "grpo")


def task_of(slug: str) -> str:
    """The task on which a method acts within two rounds: modchain, unless its file names another one."""
    return getattr(module(slug), "TASK", "modchain")


def weights_after(recipe: Recipe | str, seed: int = 0, rounds: int = 2, task: str = "modchain") -> torch.Tensor:
    """All weights after a run of two rounds of 4 prompts x 8 responses on the shipped model, as one vector."""
    run = frugal.run(recipe, task, samples=32 * rounds, seed=seed, evaluations=1, eval_problems=4, threads=1)
    return torch.cat([p.detach().flatten() for p in run.net.model.parameters()])


def small(text: str) -> str:
    """The recipe with its base made small: 4 prompts x 8 responses, and a step large enough to see."""
    base, plus, patches = text.partition("+")
    name, _, settings = base.removesuffix(")").partition("(")
    size = "prompts=32" if name in ("ppo", "sft") else "prompts=4, group=8"
    return f"{name}({', '.join(filter(None, (size, 'lr=1e-3', settings)))}){plus}{patches}"
