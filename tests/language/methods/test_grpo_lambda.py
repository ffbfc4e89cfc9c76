"""GRPO-lambda: the two rewards by hand and against statistics written out, who pays, and the limits of the share."""

import math
import random
import statistics

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.grpo_lambda import LengthPenalty, grpo_lambda
from frugal.language.methods.online_difficulty import online_difficulty
from frugal.language.recipes import dapo, grpo, reinforce
from tests.language.rows import rows


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def rewards(batch, share, alpha=0.2):
    """Score and penalty of each row, the penalty at the row's end."""
    penalty = LengthPenalty(share, alpha)(batch)
    assert penalty.shape == batch.own.shape and penalty.dtype == torch.float32
    assert torch.equal(penalty, batch.at_end(penalty.sum(1)))
    return (batch.score + penalty.sum(1)).tolist()


def two_groups():
    """Group 4: right with 2, 4 and 6 tokens. Group 1: right with 3, wrong with 5 and 1. Interleaved."""
    return rows([1.0, 1.0, 0.0, 1.0, 1.0, 0.0], [2, 3, 5, 4, 6, 1], [4, 1, 1, 4, 4, 1])


def test_equation_by_hand():
    """Lengths 2, 4, 6 have mean 4 and spread 2: z = -1, 0, 1. The other group is right less often and pays nothing."""
    got = rewards(two_groups(), share=0.5)
    e = math.e
    assert got == pytest.approx([1 - 0.2 / (1 + e), 1.0, 0.0, 0.9, 1 - 0.2 * e / (1 + e), 0.0], rel=1e-6)


def test_its_limits_are_no_penalty_and_one_for_all():
    batch = two_groups()
    assert rewards(batch, share=0.0) == batch.score.tolist()
    uniform = rewards(batch, share=1.0)
    assert uniform[1] == pytest.approx(0.9), "one right response alone: no spread, half of alpha"
    assert uniform[2] == uniform[5] == 0.0
    assert [uniform[b] for b in (0, 3, 4)] == [rewards(batch, share=0.5)[b] for b in (0, 3, 4)]


def test_equal_lengths_pay_half():
    assert rewards(rows([1.0, 1.0, 0.0], [3, 3, 1]), share=1.0, alpha=0.5) == [0.75, 0.75, 0.0]


@pytest.mark.parametrize("share, pay", [(0.2, 1), (0.25, 1), (0.26, 2), (0.75, 3), (1.0, 4)])
def test_the_groups_that_are_most_often_right_pay(share, pay):
    """Four groups with 1, 3, 2 and 3 right ones of 3: of the two that are equally right the first pays first."""
    batch = rows([1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1.0], [2] * 12, [0, 0, 0, 9, 9, 9, 3, 3, 3, 7, 7, 7])
    got = rewards(batch, share)
    paying = {int(batch.group[b]) for b in range(12) if got[b] == pytest.approx(0.9)}
    assert paying == {g for g, _ in zip((7, 9, 3, 0), range(pay), strict=False)}


def test_equals_the_statistics_written_out():
    draw = random.Random(0)
    for _ in range(20):
        groups = {g: [(draw.choice([0.0, 1.0]), draw.randint(1, 8)) for _ in range(5)] for g in (2, 5, 8, 11)}
        ranked = sorted(groups, key=lambda g: (-statistics.mean(s for s, _ in groups[g]), g))
        wanted = []
        for g, v in groups.items():
            lengths = [n for s, n in v if s]
            spread = statistics.stdev(lengths) if len(set(lengths)) > 1 else math.inf
            for s, n in v:
                z = (n - statistics.mean(lengths)) / spread if s else 0.0
                wanted.append(s * (1 - 0.3 * sigmoid(z) * (g in ranked[:2])))
        batch = rows([s for v in groups.values() for s, _ in v], [n for v in groups.values() for _, n in v],
                     [g for g in groups for _ in range(5)])  # fmt: skip
        assert rewards(batch, share=0.5, alpha=0.3) == pytest.approx(wanted, rel=1e-6)


def test_rows_outside_the_statistics_change_nothing():
    """A greedy row that does not count pays like the others; an imaginary one, which nobody wrote, does not."""
    batch = two_groups()
    more = batch + rows([1.0, 1.0], [4, 1], [4, 4]).put(
        counts=torch.tensor([False, True]), own=torch.tensor([[True] * 4, [False] * 4])
    )
    got = rewards(more, share=0.5)
    assert got[:6] == rewards(batch, share=0.5) and got[6:] == pytest.approx([0.9, 1.0])


def test_clashes_with_what_throws_its_groups_away_and_leans_on_groups():
    for make in (lambda: grpo() + grpo_lambda() + online_difficulty(), lambda: dapo() + grpo_lambda()):
        with pytest.raises(Clash, match="all-right"):
            make()
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (reinforce() + grpo_lambda()).check()


def test_nonsense_is_refused():
    for options in ({"share": 1.2}, {"alpha": -0.1}):
        with pytest.raises(BadRecipe, match="from 0 to 1"):
            grpo_lambda(**options)
