"""Every pair of methods: the same recipe in both orders, or the same clash; what does not clash trains."""

from collections import Counter

import pytest
import torch

from frugal.core.errors import BadRecipe, BadTask
from frugal.registry import base_of, recipe
from tests.every import BASES, DOMAIN, PAIRS, small, task_of_pair, weights_after


def built(text: str):
    """The recipe, or the message of its clash, or of what it lacks."""
    try:
        made = recipe(text)
        made.check()
    except BadRecipe as refused:
        return str(refused)
    return made


def base_for(a: str, b: str) -> tuple[str, list[str]]:
    """The base of one of the two, without settings, which may clash with either; and who of them is refused on it.

    Of control, whose methods are of two loops, one that takes both if there is one.
    """
    bases = [small(base_of(slug).partition("(")[0]) for slug in ((a, b) if DOMAIN[a] == "control" else (a,))]
    refused = {base: [slug for slug in (a, b) if isinstance(built(f"{base}+{slug}"), str)] for base in bases}
    return min(refused.items(), key=lambda item: len(item[1]))


def test_all_pairs_were_found():
    sizes = Counter(DOMAIN.values()).values()
    assert len(PAIRS) == sum(n * (n - 1) // 2 for n in sizes) >= 15


@pytest.mark.parametrize("a,b", PAIRS)
def test_order_does_not_matter(a, b):
    base, alone = base_for(a, b)
    one, other = built(f"{base}+{a}+{b}"), built(f"{base}+{b}+{a}")
    assert one == other
    if isinstance(one, str):
        assert (any if alone else all)(slug in one for slug in alone or (a, b)), "a clash names both"
    else:
        assert hash(one) == hash(other) and str(one) == str(other)
        try:
            assert torch.isfinite(weights_after(one, task=task_of_pair(a, b))).all()
        except BadTask as refused:  # the environment that one of them names is none for the base, or for the other
            pytest.skip(str(refused))


@pytest.mark.parametrize("slug,base", [(s, b) for s in sorted(DOMAIN) for b in sorted(BASES) if BASES[b] == DOMAIN[s]])
def test_every_base_takes_the_method_or_says_why_not(base, slug):
    made = built(small(f"{base}+{slug}"))
    try:
        if not isinstance(made, str):
            assert torch.isfinite(weights_after(made, rounds=1, task=task_of_pair(slug, slug))).all()
    except BadTask as refused:  # the base has other actions than the method's environment
        made = f"{slug}: {refused}"
    assert not isinstance(made, str) or (slug in made and base in made)


def test_a_base_of_another_domain_says_so():
    for slug in DOMAIN:
        other = next(base for base in sorted(BASES) if BASES[base] != DOMAIN[slug])
        assert f"{slug} belongs to the {DOMAIN[slug]} domain" in built(f"{other}+{slug}")
