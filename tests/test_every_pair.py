"""Every pair of methods: the same recipe in both orders, or the same clash; what does not clash trains."""

from itertools import combinations

import pytest
import torch

from frugal.core.errors import BadRecipe
from frugal.registry import bases, recipe
from tests.every import LANGUAGE, base_of, small, weights_after

PAIRS = list(combinations(sorted(LANGUAGE), 2))


def built(text: str):
    """The recipe, or the message of its clash, or of what it lacks."""
    try:
        made = recipe(text)
        made.check()
    except BadRecipe as refused:
        return str(refused)
    return made


def test_all_pairs_were_found():
    assert len(PAIRS) == len(LANGUAGE) * (len(LANGUAGE) - 1) // 2 >= 15


@pytest.mark.parametrize("a,b", PAIRS)
def test_order_does_not_matter(a, b):
    base = small(base_of(a).partition("(")[0])  # without settings, which may clash with either
    one, other = built(f"{base}+{a}+{b}"), built(f"{base}+{b}+{a}")
    assert one == other
    if isinstance(one, str):
        assert a in one and b in one, "a clash names both"
    else:
        assert hash(one) == hash(other) and str(one) == str(other)
        assert torch.isfinite(weights_after(one)).all()


@pytest.mark.parametrize("base", sorted(bases()))
@pytest.mark.parametrize("slug", sorted(LANGUAGE))
def test_every_base_takes_the_method_or_says_why_not(base, slug):
    made = built(small(f"{base}+{slug}"))
    if isinstance(made, str):
        assert slug in made and base in made
    else:
        assert torch.isfinite(weights_after(made, rounds=1)).all()
