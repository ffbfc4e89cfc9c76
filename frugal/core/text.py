"""Recipes as text: ``grpo+ead(hot=1.3)+capo`` is the value that Python builds from the same names."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import BadRecipe, UnknownName
from .recipe import Patch, Recipe
from .schedule import SCHEDULES

Finder = Callable[[str], Callable[..., Any]]  # a name -> the function that makes the base or patch


def parse(text: str, find: Finder) -> Recipe:
    """The recipe that `text` names. Raises `UnknownName` or `BadRecipe`, pointing at the wrong word."""
    made = [_term(term, text, find) for term in _split(text, "+")]
    recipe, rest = made[0], made[1:]
    if not isinstance(recipe, Recipe):
        raise BadRecipe(
            _point(text, text.strip(), f"{recipe.name} is a patch; a recipe begins with a base such as grpo")
        )
    for patch in rest:
        if not isinstance(patch, Patch):
            raise BadRecipe(f"{text!r} names two bases, {recipe.base.name} and {patch.base.name}; keep one")
        recipe = recipe + patch
    return recipe


def _term(term: str, text: str, find: Finder) -> Any:
    match = re.fullmatch(r"\s*([^()]+?)\s*(?:\((.*)\))?\s*", term, re.DOTALL)
    if match is None:
        raise BadRecipe(_point(text, term, "expected name or name(option=value, ...)"))
    name, inside = match.groups()
    try:
        return find(name)(**_arguments(inside or "", text))
    except UnknownName as error:
        wrong = re.search(r"'([^']*)'", str(error))
        raise BadRecipe(_point(text, wrong.group(1) if wrong else name, str(error))) from None


def _arguments(inside: str, text: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(call, ast.Call)
    except (SyntaxError, AssertionError):
        raise BadRecipe(_point(text, inside, "cannot be read; write option=value, separated by commas")) from None
    if call.args:
        raise BadRecipe(_point(text, ast.unparse(call.args[0]), "options are given by name: option=value"))
    return {str(k.arg): _value(k.value, text) for k in call.keywords}


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SCHEDULES:
        return SCHEDULES[node.func.id](*(_value(a, text) for a in node.args))
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise BadRecipe(
            _point(
                text,
                ast.unparse(node),
                "is not a number, a quoted word, True, False, None, "
                f"a tuple of these, or a schedule ({', '.join(SCHEDULES)})",
            )
        ) from None


def _split(text: str, at: str) -> list[str]:
    """Split at a character outside parentheses and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "()":
            depth += 1 if c == "(" else -1
        if c == at and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += c
    if depth or quote:
        raise BadRecipe(f"{text!r}: a parenthesis or quote is not closed")
    if not all(part.strip() for part in parts):
        raise BadRecipe(f"{text!r}: nothing stands beside a {at!r}; write for example grpo+ead")
    return parts


def _point(text: str, word: str, why: str) -> str:
    at = max(text.find(word.strip()), 0)
    return f"{why}\n  {text}\n  {' ' * at}{'^' * max(len(word.strip()), 1)}"


def from_file(address: str) -> Callable[..., Any]:
    """The function behind ``path/to/file.py:name``. Raises `BadRecipe` if the file or the name is not there."""
    path, _, name = address.rpartition(":")
    if not Path(path).is_file():
        raise BadRecipe(f"{address}: there is no file {path!r}; write path/to/file.py:function")
    spec = importlib.util.spec_from_file_location(f"user_file_{Path(path).stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadRecipe(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, name, None)):
        functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise UnknownName(f"function in {path}", name, functions)
    return getattr(module, name)
