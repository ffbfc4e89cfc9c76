"""Bases and methods by name. Imports only the file that is asked for, and no torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .catalogue.index import cards
from .core.errors import BadRecipe, BadRun, UnknownName
from .core.recipe import Domain, Recipe
from .core.stages import Stage, Stages, split_stage
from .core.text import arguments, from_file, parse

PACKAGE = Path(__file__).parent
USUAL_TASKS = {  # by domain, and by base where another is wanted
    "language": "modchain",
    "preference": "pairs",
    "rlhf": "rm-lab",
    "control": "CartPole-v1",
    "td3": "Pendulum-v1",
    "sac": "Pendulum-v1",
}
ENVIRONMENT = re.compile(r"-v\d+(\(.*\))?")  # how the id of a Gymnasium environment ends

DOMAINS = tuple(sorted((path.parts[-2] for path in PACKAGE.glob("*/options.py")), key=lambda d: (d != "language", d)))


@functools.cache
def methods() -> dict[str, str]:
    """{slug: module} of every method file."""
    return {
        path.stem.replace("_", "-"): f"frugal.{path.parts[-3]}.methods.{path.stem}"
        for path in sorted(PACKAGE.glob("*/methods/[!_]*.py"))
    }


@functools.cache
def bases() -> dict[str, Callable[..., Recipe]]:
    """{name: function} of every base recipe; ``domain.name`` where an earlier domain has the name."""
    found = {}
    for domain in DOMAINS:
        module = importlib.import_module(f"frugal.{domain}.recipes")
        found.update(
            {
                f.base_name: f
                for f in vars(module).values()
                if getattr(f, "__module__", "") == module.__name__ and hasattr(f, "base_name")
            }
        )
    return found


def code(chosen: Recipe | Stages) -> str:
    """A fingerprint of the source that a run depends on: core, maths, its domain, and the methods of the recipe."""
    stages = chosen.stages if isinstance(chosen, Stages) else (Stage(chosen),)
    used = {methods()[p.name].rpartition(".")[2] for s in stages for p in s.recipe.patches if p.name in methods()}
    domains = {name for s in stages for name in (s.recipe.domain.name, s.recipe.domain.kin)}
    sources = [p for folder in ("core", "maths", *sorted(domains)) for p in sorted((PACKAGE / folder).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in sources:
        if path.parent.name != "methods" or path.stem in used:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def domain_of(text: str, task: Any = None) -> str:
    """The domain that is meant where several have a base of one name: that of a method in the text, or of the task."""
    words = set(re.split(r"[^\w-]+", text))
    for slug, module in methods().items():
        if slug in words:
            return module.split(".")[1]
    if isinstance(task, str):
        return "control" if ENVIRONMENT.search(task) else ""
    return "" if task is None or hasattr(task, "problems") else "control"


def is_staged(slug: str) -> bool:
    """Whether a built method is a sequence of recipes instead of a patch."""
    return isinstance(find(slug)(), Stages)


def base_of(slug: str) -> str:
    """The base that a method is tested on: its domain's usual one, unless its file names another."""
    named = getattr(importlib.import_module(methods()[slug]), "BASE", None)
    domain = methods()[slug].split(".")[1]
    return named or next(made.domain.base for made in (f() for f in bases().values()) if made.domain.name == domain)


def task_of(slug: str) -> str:
    """The task that a method is tested on: its base's usual one, unless its file names another."""
    named = getattr(importlib.import_module(methods()[slug]), "TASK", None)
    return named or usual_task(base_of(slug).partition("(")[0])


def usual_task(base: str) -> str:
    """The smallest task on which a base trains."""
    return USUAL_TASKS.get(base) or USUAL_TASKS[bases()[base]().domain.name]


def host(chosen: Recipe | Stages, task: Any) -> Domain:
    """Whose `main` runs a recipe on a task: its own domain, or, of its family, the one that has the task."""
    others = [made.domain for made in (f() for f in bases().values()) if chosen.domain.name in made.domain.takes]
    for domain in others:
        if hasattr(task, "prefer") or (isinstance(task, str) and re.split(r"[(:]", task)[0] in tasks(domain.name)):
            return domain
    return chosen.domain


def tasks(domain: str) -> Mapping[str, Any]:
    """The built-in tasks of a domain."""
    return importlib.import_module(f"frugal.{domain}.tasks").BUILT_IN  # type: ignore[no-any-return]


def check_options(domain: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a domain has. Raises `BadRun` for one that it has not, unless it says what it always does."""
    known = {f.name: f.default for f in dataclasses.fields(options(domain))}
    others = {f.name: f.default for d in DOMAINS for f in dataclasses.fields(options(d))}
    for name, value in given.items():
        if name not in known and not (name in others and value == others[name]):
            raise BadRun(
                f"runs of the {domain} domain have no option {name!r}, so {name}={value!r} would have no effect; "
                f"leave it out, or choose from {', '.join(known)}"
            )
    return {name: value for name, value in given.items() if name in known}


def options(domain: str) -> type:
    """The dataclass of a domain's options."""
    return importlib.import_module(f"frugal.{domain}.options").Options  # type: ignore[no-any-return]


def find(name: str, domain: str = "") -> Callable[..., Any]:
    """The function that makes the base or patch `name` (``file.py:function`` for a user's own).

    Of bases with one name it is that of `domain`.
    """
    if ".py:" in name:
        return from_file(name)
    if f"{domain}.{name}" in bases():
        return bases()[f"{domain}.{name}"]
    if name in bases():
        return bases()[name]
    if name not in methods() and name in cards():
        raise BadRecipe(f"{name} is in the catalogue but not built yet; start it with: frugal new {name}")
    if name not in methods():
        raise UnknownName("recipe or method", name, [*bases(), *methods()])
    return getattr(importlib.import_module(methods()[name]), name.replace("-", "_"))  # type: ignore[no-any-return]


def recipe(text: str, task: Any = None) -> Recipe:
    """The recipe that a text such as ``grpo+ead(hot=1.3)+capo`` names. Raises `BadRecipe`, `Clash`, `UnknownName`.

    The methods, or else the `task`, decide which ``ppo`` is meant; the recipe itself says ``control.ppo``.
    """
    return parse(text, functools.partial(find, domain=domain_of(text, task)))


def recipe_or_stages(text: str, task: Any = None) -> Recipe | Stages:
    """As `recipe`; a text such as ``sft:1000 then grpo`` names stages, as does that of a staged method, ``tulu3``."""
    pieces = [split_stage(piece) for piece in text.split(" then ")]
    if len(pieces) == 1 and pieces[0][1:] == (None, None):
        name, _, inside = text.strip().partition("(")
        if name in methods() and is_staged(name):
            return find(name)(**arguments(inside.removesuffix(")"), text, text.find("(") + 1)[0])  # type: ignore[no-any-return]
        return recipe(text, task)
    return Stages(tuple(Stage(recipe(name, own or task), samples, own) for name, samples, own in pieces))
