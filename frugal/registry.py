"""Bases and methods by name. Imports only the file that is asked for, and no torch."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .catalogue.index import cards
from .core.errors import BadRecipe, UnknownName
from .core.recipe import Recipe
from .core.stages import Stage, Stages, split_stage
from .core.text import from_file, parse

PACKAGE = Path(__file__).parent


@functools.cache
def methods() -> dict[str, str]:
    """{slug: module} of every method file."""
    return {
        path.stem.replace("_", "-"): f"frugal.{path.parts[-3]}.methods.{path.stem}"
        for path in sorted(PACKAGE.glob("*/methods/[!_]*.py"))
    }


@functools.cache
def bases() -> dict[str, Callable[..., Recipe]]:
    """{name: function} of every base recipe."""
    found = {}
    for path in sorted(PACKAGE.glob("*/recipes.py")):
        module = importlib.import_module(f"frugal.{path.parts[-2]}.recipes")
        found.update(
            {
                name.replace("_", "-"): f
                for name, f in vars(module).items()
                if getattr(f, "__module__", "") == module.__name__ and hasattr(f, "__wrapped__")
            }
        )
    return found


def code(chosen: Recipe | Stages) -> str:
    """A fingerprint of the source that a run depends on: core, maths, its domain, and the methods of the recipe."""
    stages = chosen.stages if isinstance(chosen, Stages) else (Stage(chosen),)
    used = {methods()[p.name].rpartition(".")[2] for s in stages for p in s.recipe.patches if p.name in methods()}
    sources = [p for folder in ("core", "maths", chosen.domain.name) for p in sorted((PACKAGE / folder).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in sources:
        if path.parent.name != "methods" or path.stem in used:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def find(name: str) -> Callable[..., Any]:
    """The function that makes the base or patch `name` (``file.py:function`` for a user's own)."""
    if ".py:" in name:
        return from_file(name)
    if name in bases():
        return bases()[name]
    if name not in methods() and name in cards():
        raise BadRecipe(f"{name} is in the catalogue but not built yet; start it with: frugal new {name}")
    if name not in methods():
        raise UnknownName("recipe or method", name, [*bases(), *methods()])
    return getattr(importlib.import_module(methods()[name]), name.replace("-", "_"))  # type: ignore[no-any-return]


def recipe(text: str) -> Recipe:
    """The recipe that a text such as ``grpo+ead(hot=1.3)+capo`` names. Raises `BadRecipe`, `Clash`, `UnknownName`."""
    return parse(text, find)


def recipe_or_stages(text: str) -> Recipe | Stages:
    """As `recipe`; a text such as ``sft:1000 then grpo`` names stages."""
    pieces = [split_stage(piece) for piece in text.split(" then ")]
    if len(pieces) == 1 and pieces[0][1:] == (None, None):
        return recipe(text)
    return Stages(tuple(Stage(recipe(name), samples, task) for name, samples, task in pieces))
