"""The contract that every method passes. New methods join by existing."""

import ast
import dataclasses
import inspect
import re

import pytest
import torch

from frugal.catalogue.index import cards
from frugal.core.recipe import Patch
from frugal.registry import base_of, find, recipe, task_of
from tests.every import DOMAIN, LANGUAGE, module, run_small, small, weights_after
from tests.language.tinyrun import listening

slugs = pytest.mark.parametrize("slug", sorted(DOMAIN))
HEAD = ("Changes", "Source", "Ours", "Leans on", "Experiment")


def test_all_were_found():
    assert len(LANGUAGE) >= 6
    assert {"ead", "capo", "remax", "ngrpo", "lp-reg", "online-difficulty"} <= set(LANGUAGE)


def on_base(slug: str, options: str = "") -> str:
    return small(f"{base_of(slug)}+{slug}{options}")


def texts(slug: str, name: str) -> str | None:
    """Options of the method's file as recipe text: NEUTRAL, or VISIBLE where the defaults do nothing on a tiny task."""
    options = getattr(module(slug), name, None)
    return (
        None if options is None else f"({', '.join(f'{k}={v!r}' for k, v in options.items())})".replace("inf", "1e999")
    )


@slugs
def test_head_is_complete(slug):
    head = ast.get_docstring(ast.parse(inspect.getsource(module(slug))))
    first, rest = head.split("\n", 1)
    assert first.endswith(".") and len(first) < 120, "the head begins with one sentence of under 120 characters"
    for word in HEAD:
        assert re.search(rf"^{word} +\S", rest, re.MULTILINE), f"the head lacks {word}"
    assert slug not in cards() or cards()[slug].arxiv in rest
    assert "TODO" not in inspect.getsource(module(slug))


@slugs
def test_one_public_function_of_the_same_name(slug):
    public = [n for n, f in vars(module(slug)).items() if inspect.isfunction(f) and hasattr(f, "__wrapped__")]
    assert public.count(slug.replace("-", "_")) == 1
    assert isinstance(find(slug)(), Patch) and find(slug).__doc__


@slugs
def test_only_declared_parts_change(slug):
    plain, patched = recipe(base_of(slug)), recipe(f"{base_of(slug)}+{slug}")
    made = find(slug)()
    touched = {*made.touches(), *made.silences}  # a setting that is made dead falls back to the loop's own
    changed = {p for p in plain.parts.keys() | patched.parts.keys() if plain.parts.get(p) != patched.parts.get(p)}
    settings = {
        f.name
        for f in dataclasses.fields(plain.settings)
        if getattr(plain.settings, f.name) != getattr(patched.settings, f.name)
    }
    assert changed | settings
    assert all(any(t == c or t.startswith(c + ".") for t in touched) for c in changed | settings)


@slugs
def test_text_round_trip(slug):
    text = f"{base_of(slug)}+{slug}"
    assert str(recipe(text)) == text and recipe(str(recipe(text))) == recipe(text)


@slugs
def test_repeats_bit_for_bit_and_leaks_nothing_between_seeds(slug):
    chosen = recipe(on_base(slug))
    first, other, again = (weights_after(chosen, seed, task=task_of(slug)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@slugs
def test_has_an_effect(slug):
    options, task = texts(slug, "VISIBLE") or "", task_of(slug)
    plain = weights_after(small(base_of(slug)), task=task)
    assert not torch.equal(weights_after(on_base(slug, options), task=task), plain)


@slugs
def test_is_its_base_at_the_neutral_value(slug):
    options = texts(slug, "NEUTRAL")
    if options is None:
        pytest.skip("no neutral value")
    neutral, task = recipe(on_base(slug, options)), task_of(slug)
    plain = recipe(small(base_of(slug)))
    if DOMAIN[slug] == "language":
        plain = listening(plain, neutral)
    assert torch.equal(weights_after(neutral, task=task), weights_after(plain, task=task))


@slugs
def test_shapes_and_dtypes_are_kept(slug):
    seen = []
    run = run_small(on_base(slug), rounds=1, task=task_of(slug), reporter=lambda r, line: seen.append(line))
    line = next(line for line in seen if line["kind"] == "train")
    assert all(isinstance(v, (int, float)) and v == v for k, v in line.items() if k not in ("kind", "patches"))
    trained = run.net.weights.values() if DOMAIN[slug] == "control" else run.net.model.parameters()
    assert all(p.dtype == torch.float32 for p in trained)
    made = recipe(on_base(slug))
    owners = {name for path in made.parts for name in made.owner(path).split(", ")}
    assert slug in owners or find(slug)().set, f"no part of {made} is owned by {slug}"
