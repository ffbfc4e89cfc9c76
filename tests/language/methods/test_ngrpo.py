"""NGRPO: the imaginary response by hand, against statistics written out, and what the clip range binds."""

import random
import statistics

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.ngrpo import NotAllRight, VirtualRows, ngrpo
from frugal.language.methods.online_difficulty import online_difficulty
from frugal.language.parts import GroupRelative, Overlong
from frugal.language.recipes import dapo, grpo
from frugal.language.rows import Rows
from tests.language.rows import rows
from tests.language.tinyrun import Constant, launch, policy, spy


def with_virtual(batch: Rows, n: int = 1, best: float = 1.0) -> Rows:
    extra = VirtualRows(n, best)(batch, 0).ready
    return batch if extra is None else batch + extra


def advantages(batch: Rows, eps: float = 0.0) -> list[float]:
    """One number for each row, those of the imaginary rows included."""
    return GroupRelative(eps=eps)(batch.at_end(batch.score), batch)[:, 0].tolist()


def test_an_all_wrong_group():
    """G = 8: mean' = 1/9, std' = 1/3, so A = -1/3 for all."""
    A = advantages(with_virtual(rows([0.0] * 8, [2] * 8)))
    assert A[:8] == pytest.approx([-1 / 3] * 8)


def test_an_all_right_group_has_no_advantage():
    assert advantages(with_virtual(rows([1.0] * 8, [2] * 8)), eps=1e-4) == [0.0] * 9


def test_a_mixed_group():
    """Rewards 1, 0, 0 and the imaginary 1: mean' = 1/2, std' = sqrt(1/3). The failures are pushed down harder."""
    A = advantages(with_virtual(rows([1.0, 0.0, 0.0], [2] * 3)))
    assert A[:3] == pytest.approx([3**0.5 / 2, -(3**0.5) / 2, -(3**0.5) / 2])
    plain = advantages(rows([1.0, 0.0, 0.0], [2] * 3))
    assert A[0] < plain[0] and A[1] < plain[1]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_equals_the_statistics_written_out(n):
    draw = random.Random(n)
    for _ in range(20):
        scores = {g: [draw.choice([0.0, 0.25, 1.0]) for _ in range(draw.randint(2, 6))] for g in (5, 2)}
        flat, ids = [s for v in scores.values() for s in v], [g for g, v in scores.items() for _ in v]
        batch = with_virtual(rows(flat, [draw.randint(1, 4) for _ in flat], ids), n, best=1.5)
        wanted = []
        for v in scores.values():
            counted = [*v, *[1.5] * n]
            std = statistics.stdev(counted)
            wanted += [(r - statistics.mean(counted)) / (std + 1e-4) if std else 0.0 for r in v]
        assert advantages(batch, eps=1e-4)[: len(flat)] == pytest.approx(wanted, rel=1e-5)


def test_imaginary_rows_count_and_do_nothing_else():
    batch = rows([0.0] * 4, [3, 1, 2, 4], [1, 1, 0, 0]).put(done=torch.tensor([False, True, False, True]))
    extra = VirtualRows(2, 1.0)(batch, 0).ready
    assert extra.group.tolist() == [0, 0, 1, 1] and extra.score.tolist() == [1.0] * 4
    assert extra.counts.all() and not extra.use.any() and not extra.own.any()
    assert VirtualRows(2, 1.0)(batch, 1).ready is None, "asked for a second time"
    assert VirtualRows(0, 1.0)(batch, 0).ready is None


def test_an_imaginary_row_is_not_punished_for_the_length_of_the_row_it_was_made_from():
    batch = rows([0.0, 0.0], [8, 8], limit=8).put(done=torch.tensor([False, False]))
    penalty = Overlong(0.5)(with_virtual(batch)).sum(1)
    assert penalty.tolist() == [-1.0, -1.0, 0.0]


def test_only_all_right_groups_are_rejected():
    batch = rows([0.0, 0.0, 1.0, 0.0, 1.0, 1.0], [2] * 6, [0, 0, 1, 1, 2, 2])
    for n in (0, 1):
        whole = with_virtual(batch, n)
        assert NotAllRight(1.0)(whole.score, whole).tolist() == [True, True, False]


def test_falling_tokens_are_bound_by_low_and_rising_ones_by_high():
    """[0.84, 1.24]: with A < 0 the ratio stops mattering below 0.84, with A > 0 above 1.24."""
    parts = (grpo() + ngrpo()).parts
    ratio = torch.tensor([[0.83, 0.85, 1.23, 1.25]], requires_grad=True)
    for sign, flat in ((-1.0, [True, False, False, False]), (1.0, [False, False, False, True])):
        A = torch.full((1, 4), sign)
        loss = parts["learn.surrogate"](None, ratio, A, parts["learn.clip"](ratio, A, torch.ones_like(A) > 0), None)
        (slope,) = torch.autograd.grad(loss.sum(), ratio)
        assert (slope[0] == 0).tolist() == flat


def test_all_wrong_rounds_teach_something_in_the_loop():
    """Every score 0, group of 4: A = -(1/5) / (std of 0, 0, 0, 0, 1 + 1e-4)."""
    seen: list = []
    launch(grpo(prompts=2, group=4) + ngrpo() + spy(seen), Constant(0.0), policy(), samples=8)
    (_, mini), *rest = seen
    assert not rest and len(mini) == 8
    assert mini.A[mini.use].tolist() == pytest.approx([-0.2 / (0.2**0.5 + 1e-4)] * int(mini.use.sum()))


def test_clashes_with_what_throws_its_groups_away():
    with pytest.raises(Clash, match="all-wrong"):
        grpo() + ngrpo() + online_difficulty()
    with pytest.raises(Clash, match="all-wrong"):
        dapo() + ngrpo()


def test_nonsense_is_refused():
    with pytest.raises(BadRecipe, match="virtual"):
        ngrpo(virtual=-1)
