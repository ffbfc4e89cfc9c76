"""D3S: which rollouts, which tokens, when; against brute force over all subsets."""

from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from frugal.core.errors import BadRecipe, Clash
from frugal.core.schedule import linear
from frugal.language.methods.d3s import d3s, widest
from frugal.language.methods.pacs import pacs
from frugal.language.recipes import grpo, reinforce, sft
from frugal.language.rows import Rows
from frugal.registry import recipe
from tests.language.rows import rows
from tests.language.tinyrun import launch, spy


def select(A: Tensor, entropy: Tensor, batch: Rows, progress: float = 0.0, **options) -> Tensor:
    """What `d3s` keeps of the batch, A [B] or [B,T], entropy [B,T]."""
    part = d3s(**options).add["update.select"].begin(SimpleNamespace(progress=progress))
    A = A[:, None].expand_as(entropy) if A.ndim == 1 else A
    return part(A, batch.put(columns={"old.entropy": entropy}))


def test_rollouts_by_hand():
    """The four +-1 have variance 1; of 3, 2.8, 1, 0 the two ends and 2.8, further from their middle than 1."""
    assert sorted(widest(torch.tensor([0.0, 1.0, -1.0, 1.0, 0.0, -1.0]), 4).tolist()) == [1, 2, 3, 5]
    assert sorted(widest(torch.tensor([0.0, 1.0, 2.8, 3.0]), 3).tolist()) == [0, 2, 3]


@pytest.mark.parametrize("n", range(1, 13))
def test_rollouts_equal_brute_force(n):
    x = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    chosen = widest(x, n)
    assert len(set(chosen.tolist())) == n
    best = max(float(x[list(subset)].var(correction=0)) for subset in combinations(range(12), n))
    assert float(x[chosen].var(correction=0)) == pytest.approx(best, abs=1e-12)


def test_tokens_by_hand():
    """Half of four rollouts: A = 2 and -1. |A| H = 0.2, 1.0, 0.6 and 0.5, 0.7: of these five the best two."""
    batch = rows([0.0] * 4, [3, 3, 2, 2])
    H = torch.tensor([[0.1, 0.5, 0.3], [9.0, 9.0, 9.0], [0.5, 0.7, 0.0], [9.0, 9.0, 0.0]])
    got = select(torch.tensor([2.0, 0.0, -1.0, 0.5]), H, batch, rows=0.5, tokens=0.4)
    assert got.nonzero().tolist() == [[0, 1], [2, 1]]


def test_the_shares_grow_with_progress():
    """0.25 + 0.5 p of 8 rollouts of 4 tokens, and of these tokens the same share."""
    batch, rng = rows([0.0] * 8, [4] * 8), torch.Generator().manual_seed(0)
    A, H = torch.randn(8, generator=rng), torch.rand(8, 4, generator=rng)
    growing = linear(0.25, 0.75)
    for progress, n in ((0.0, 2), (0.5, 4), (1.0, 6)):
        whole = select(A, H, batch, progress, rows=growing, tokens=1.0)
        assert whole.any(1).sum() == n and whole.sum() == 4 * n
        assert select(A, H, batch, progress, rows=growing, tokens=growing).sum() == n * n / 2


def test_only_what_trains_is_ranked():
    """The extreme advantages belong to a row that is imagined and one that trains nothing."""
    batch = rows([0.0] * 4, [2, 2, 2, 2])
    own, trains = batch.own.clone(), batch.trains.clone()
    own[0], trains[1] = False, False
    got = select(
        torch.tensor([9.0, -9.0, 1.0, 0.5]), torch.ones(4, 2), batch.put(own=own, trains=trains), rows=1.0, tokens=1.0
    )
    assert got.any(1).tolist() == [False, False, True, True]
    assert not select(torch.ones(4), torch.ones(4, 2), batch.put(trains=trains & False)).any()


def test_a_rollouts_advantage_is_the_mean_of_its_used_tokens():
    """Means 1, 2 and -1; what stands at padding does not count."""
    batch = rows([0.0] * 3, [2, 1, 2])
    A = torch.tensor([[3.0, -1.0], [2.0, -90.0], [-1.0, -1.0]])
    got = select(A, torch.ones(3, 2), batch, rows=2 / 3, tokens=1.0)
    assert got.any(1).tolist() == [False, True, True]


def test_all_rollouts_and_all_tokens_are_the_base():
    batch, rng = rows([0.0] * 5, [3, 1, 4, 2, 2]), torch.Generator().manual_seed(0)
    got = select(torch.randn(5, 4, generator=rng), torch.rand(5, 4, generator=rng), batch, rows=1.0, tokens=1.0)
    assert torch.equal(got, batch.use)


def test_the_loop_trains_on_what_was_chosen_and_knows_its_entropy():
    """Two groups of four, a quarter of the rollouts: two of them, the same share of their tokens."""
    seen: list = []
    launch(grpo(prompts=2, group=4) + d3s(rows=0.25, tokens=0.5) + spy(seen), samples=8)
    ((_, mini),) = seen
    assert len(mini) == 2 and float(mini.A[:, 0].max()) > 0 > float(mini.A[:, 0].min())
    assert int(mini.use.sum()) == round(int(mini.own.sum()) / 2)
    H = mini.columns["old.entropy"]
    assert (H[mini.own] > 0).all()
    key = mini.A.abs() * H
    assert key[mini.use].min() >= key[mini.own & ~mini.use].max()


def test_the_schedule_is_text_and_value():
    text = "grpo+d3s(rows=linear(0.1, 0.5))"
    assert str(recipe(text)) == text
    assert recipe(text).parts["update.select.d3s"].rows == linear(0.1, 0.5)


def test_clashes_where_no_advantage_of_a_group_is_trained_on():
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (reinforce() + d3s()).check()
    for make in (sft, lambda: grpo() + pacs()):
        with pytest.raises(Clash, match=r"credit\.advantage"):
            make() + d3s()


@pytest.mark.parametrize("options", [{"rows": 0.0}, {"tokens": 1.5}, {"rows": linear(0.0, 0.5)}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give a share"):
        d3s(**options)
