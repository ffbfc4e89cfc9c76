"""What a page says of a built method: its head, its options, and what it goes with."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from frugal.core.errors import BadRecipe
from frugal.registry import base_of, bases, find, is_staged, methods, recipe, task_of

SECTIONS = ("Changes", "Source", "Ours", "Leans on", "Experiment")
INDENT = 13  # of the text of a section, as `frugal new` lays it out


@dataclass(frozen=True)
class Option:
    name: str
    kind: str
    default: str


@dataclass(frozen=True)
class Method:
    """All of it known without torch."""

    slug: str
    base: str  # that it is tested on; "" of one that is a sequence of recipes itself
    task: str  # and on which
    line: str
    sections: dict[str, str]
    options: list[Option]
    on: dict[str, str | None]  # {base: why not, None if it goes}
    beside: dict[str, str | None]  # {method: why not, None if it goes}
    address: str  # module.function

    @property
    def recipe(self) -> str:
        """Its base with the method, as a shell takes it."""
        return shlex.quote(f"{self.base}+{self.slug}" if self.base else self.slug)


def all_methods() -> dict[str, Method]:
    """Every built method by its slug."""
    return {slug: _method(slug) for slug in methods()}


def _method(slug: str) -> Method:
    function, module = find(slug), importlib.import_module(methods()[slug])
    line, sections = head(module.__doc__ or "")
    parameters = inspect.signature(function).parameters.values()
    domain = domain_of(slug)
    return Method(
        slug,
        "" if is_staged(slug) else base_of(slug),
        shlex.quote(task_of(slug)),
        line,
        sections,
        [Option(p.name, str(p.annotation), repr(p.default)) for p in parameters],
        {base: refusal([base], [slug]) for base, make in bases().items() if make().domain.name == domain},
        {other: pair(*sorted([slug, other])) for other in methods() if other != slug and domain_of(other) == domain},
        f"{module.__name__}.{function.__name__}",
    )


def head(doc: str) -> tuple[str, dict[str, str]]:
    """The first lines of a method's file and its sections by name, each with its own indentation."""
    first, *pieces = re.split(rf"^({'|'.join(SECTIONS)}) +", inspect.cleandoc(doc), flags=re.MULTILINE)
    bodies = (textwrap.dedent(" " * INDENT + body).strip() for body in pieces[1::2])
    return " ".join(first.split()), dict(zip(pieces[::2], bodies, strict=True))


@functools.cache
def domain_of(slug: str) -> str:
    return find(slug)().domain  # type: ignore[no-any-return]


@functools.cache
def pair(a: str, b: str) -> str | None:
    """Why two methods do not combine on the base of either, None if they do."""
    bases = [base_of(slug).partition("(")[0] for slug in (a, b)]  # without settings, which may clash with either
    return refusal(dict.fromkeys(bases), [a, b])


def refusal(on: Iterable[str], patches: list[str]) -> str | None:
    """Why the patches go on none of the bases, in the words for the first; None if they go on one."""
    words = []
    for base in on:
        try:
            recipe("+".join([base, *patches])).check()
        except BadRecipe as error:
            words.append(str(error))
        else:
            return None
    return words[0]
