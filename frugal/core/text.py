"""Recipes as text: ``grpo+ead(hot=1.3)+capo`` is the value that Python builds from the same names."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import BadRecipe, UnknownName
from .recipe import Patch, Recipe
from .schedule import SCHEDULES

Finder = Callable[[str], Callable[..., Any]]  # a name -> the function that makes the base or patch


def parse(text: str, find: Finder) -> Recipe:
    """The recipe that `text` names. Raises `UnknownName` or `BadRecipe`, pointing at the wrong word."""
    recipe, at = None, 0
    for term in _split(text, "+"):
        made, name = _term(term, text, at, find)
        if recipe is None and isinstance(made, Recipe):
            recipe = made
        elif recipe is None:
            raise BadRecipe(_point(text, at, term, f"{name} is a patch; a recipe begins with a base such as grpo"))
        elif isinstance(made, Recipe):
            raise BadRecipe(_point(text, at, term, f"two bases, {recipe.base.name} and {name}; keep one"))
        else:
            recipe = recipe + made
        at += len(term) + 1
    assert recipe is not None  # `_split` gives at least one term
    return recipe


def _term(term: str, text: str, at: int, find: Finder) -> tuple[Recipe | Patch, str]:
    """What a term makes, and its name; `at` is where in the text the term begins."""
    match = re.fullmatch(r"\s*([^()]+?)\s*(?:\((.*)\))?\s*", term, re.DOTALL)
    if match is None:
        raise BadRecipe(_point(text, at, term, "expected name or name(option=value, ...)"))
    name, inside = match.group(1), match.group(2) or ""
    options, places = arguments(inside, text, at + max(match.start(2), 0))
    try:
        made = find(name)(**options)
    except UnknownName as error:
        wrong = error.wrong if error.wrong in places else name
        raise BadRecipe(_point(text, places.get(wrong, at), wrong, str(error))) from None
    except TypeError as error:  # an option of the wrong type, such as a word for a number
        raise BadRecipe(_point(text, at, term, f"{name} cannot take these options: {error}")) from error
    if not isinstance(made, (Recipe, Patch)):
        raise BadRecipe(_point(text, at, name, f"{name} makes a {type(made).__name__}, neither a base nor a patch"))
    return made, name


def arguments(inside: str, text: str, at: int) -> tuple[dict[str, Any], dict[str, int]]:
    """{option: value} and {option: where it stands}."""
    try:
        call = _Infinity().visit(ast.parse(f"f({inside})", mode="eval").body)
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise BadRecipe(_point(text, at, inside, "cannot be read; write option=value, separated by commas"))
    at -= len("f(")
    for node in call.args:
        raise BadRecipe(_point(text, at, node, "options are given by name: option=value"))
    values: dict[str, Any] = {}
    for k in call.keywords:
        if k.arg is None or k.arg in values:
            raise BadRecipe(_point(text, at, k, "an option is given once, as option=value"))
        values[k.arg] = _value(k.value, text, at)
    return values, {str(k.arg): at + k.col_offset for k in call.keywords}


class _Infinity(ast.NodeTransformer):
    """Reads `inf` as the number that it is printed for."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(math.inf), node) if node.id == "inf" else node


def _value(node: ast.expr, text: str, at: int) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SCHEDULES:
        try:
            named = {str(k.arg): _value(k.value, text, at) for k in node.keywords}
            return SCHEDULES[node.func.id](*(_value(a, text, at) for a in node.args), **named)
        except TypeError:
            why = f"a schedule has a start and an end: {node.func.id}(1e-4, 0)"
            raise BadRecipe(_point(text, at, node, why)) from None
    try:
        value = ast.literal_eval(node)
        return tuple(value) if isinstance(value, list) else value
    except (ValueError, TypeError):
        why = "is not a number, a quoted word, True, False, None, a tuple of these, or a schedule"
        raise BadRecipe(_point(text, at, node, f"{why} ({', '.join(SCHEDULES)})")) from None


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


def _point(text: str, at: int, wrong: str | ast.expr | ast.keyword, why: str) -> str:
    """`why` and the text, with carets under what is wrong: a word at or soon after `at`, or a node counted from it."""
    if isinstance(wrong, str):
        at, length = max(text.find(wrong.strip(), at), 0), len(wrong.strip())
    else:
        at, length = at + wrong.col_offset, (wrong.end_col_offset or 0) - wrong.col_offset
    return f"{why}\n  {text}\n  {' ' * at}{'^' * max(length, 1)}"


def from_file(address: str) -> Callable[..., Any]:
    """The function behind ``path/to/file.py:name``. Raises `BadRecipe` if the file or the name is not there."""
    path, _, name = address.rpartition(":")
    if not Path(path).is_file():
        raise BadRecipe(f"{address}: there is no file {path!r}; write path/to/file.py:function")
    module = import_file(Path(path))
    if not callable(getattr(module, name, None)):
        functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise UnknownName(f"function in {path}", name, functions)
    return getattr(module, name)


def import_file(file: Path) -> ModuleType:
    """The module of a Python file, imported once, so that one file means one set of classes. Raises `BadRecipe`."""
    path = str(file.resolve())
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("__file__") == path:
            return module
    spec = importlib.util.spec_from_file_location(path, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path]
        raise BadRecipe(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
