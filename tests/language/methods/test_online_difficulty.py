"""Online difficulty filtering: bands of the pass rate, by hand and against counting."""

import random

import pytest
import torch

from frugal.core.errors import BadRecipe
from frugal.language.methods.ngrpo import VirtualRows
from frugal.language.methods.online_difficulty import online_difficulty
from frugal.language.parts import Spread
from frugal.language.rows import Rows
from tests.language.rows import rows


def groups(*solved: int, n: int = 10) -> Rows:
    """Groups of `n` rollouts, of which so many are solved."""
    scores = [float(i < k) for k in solved for i in range(n)]
    return rows(scores, [2] * len(scores), [g for g in range(len(solved)) for _ in range(n)])


def kept(batch: Rows, **options) -> list[bool]:
    return online_difficulty(**options).add["start.keep"](batch.score, batch).tolist()


def test_both_ends_of_the_band_belong_to_it():
    """p = 0, 0.1, 0.2, 0.5, 0.8, 0.9, 1 with the band [0.2, 0.8], which is the default."""
    batch = groups(0, 1, 2, 5, 8, 9, 10)
    assert kept(batch) == kept(batch, low=0.2) == [False, False, True, True, True, False, False]


def test_one_sided_bands():
    batch = groups(0, 1, 5, 9, 10)
    assert kept(batch, low=0.2, high=1.0) == [False, False, True, True, True]
    assert kept(batch, low=0.0, high=0.8) == [True, True, True, False, False]


def test_the_whole_band_keeps_everything():
    assert all(kept(groups(0, 3, 10), low=0.0))


def test_an_open_band_rejects_exactly_the_groups_without_advantage():
    """0 < p < 1 is dynamic sampling."""
    batch = groups(*range(11))
    assert kept(batch, low=1e-3) == Spread()(batch.score, batch).tolist() == [False] + [True] * 9 + [False]


def test_equals_counting():
    draw = random.Random(0)
    for _ in range(50):
        n, low = draw.randint(2, 16), draw.uniform(0, 0.5)
        solved = [draw.randint(0, n) for _ in range(5)]
        wanted = [low - 1e-9 <= k / n <= 1 - low + 1e-9 for k in solved]
        batch = groups(*solved, n=n)
        assert kept(batch, low=low) == wanted
        order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(n))
        assert kept(batch.take(order), low=low) == wanted, "groups come in ascending order, whatever the rows' order"


def test_only_sampled_rollouts_are_measured():
    """An imaginary right answer among the rows does not make a prompt solved, nor a greedy row that does not count."""
    batch = groups(0, 1, n=4)
    imagined = VirtualRows(n=4, best=1.0)(batch, 0).ready
    assert kept(batch + imagined, low=0.2) == kept(batch, low=0.2) == [False, True]
    greedy = groups(4, 4, n=4).put(counts=torch.zeros(8, dtype=torch.bool))
    assert kept(batch + greedy, low=0.2) == [False, True]


def test_says_which_groups_it_rejects():
    assert online_difficulty().rejects == ("all-wrong", "all-right")
    assert online_difficulty(low=0.0, high=0.8).rejects == ("all-right",)
    assert online_difficulty(low=0.2, high=1.0).rejects == ("all-wrong",)
    assert online_difficulty(low=0.0).rejects == ()


@pytest.mark.parametrize("options", [{"low": 0.6}, {"low": -0.1}, {"low": 0.5, "high": 0.4}, {"high": 1.1}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give"):
        online_difficulty(**options)
