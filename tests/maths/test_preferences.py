"""Losses on pairs and preference games, against values by hand, closed forms and brute force."""

import math

import pytest
import torch

from frugal import maths

H = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)


def test_logistic_loss():
    """log 2 at a draw, log(1 + e^(-beta h)) elsewhere; finite far out."""
    expected = [math.log(2), math.log1p(math.exp(-1)), math.log1p(math.exp(0.5))]
    assert maths.logistic_loss(H, 0.5).tolist() == pytest.approx(expected)
    assert maths.logistic_loss(torch.tensor([-2000.0]), 1.0).tolist() == [2000.0]


def test_ipo_loss():
    """beta 1/4: the target is 2, so 4, 0 and 9."""
    assert maths.ipo_loss(H, 0.25).tolist() == [4.0, 0.0, 9.0]


def test_hinge_loss():
    assert maths.hinge_loss(H, 0.5).tolist() == [1.0, 0.0, 1.5]


def test_kto_loss():
    """sigmoid(beta z) is 3/4 at z = log 3, beta = 1: both halves lose 1/4; a pair without a difference loses 1/2."""
    z = torch.tensor([math.log(3)], dtype=torch.float64)
    assert float(maths.kto_loss(z, -z, 0.0, 1.0)) == pytest.approx(0.25)
    assert float(maths.kto_loss(z, z, z, 1.0)) == pytest.approx(0.5)
    assert float(maths.kto_loss(z, -z, math.log(3), 1.0)) == pytest.approx((0.5 + 1 / 10) / 2)


def test_tilted():
    """Odds 1:1 times e^(log 3 / 1): 3/4 and 1/4. Nothing near it has a larger E[r] - beta KL."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    best = maths.tilted(half, torch.tensor([math.log(3), 0.0], dtype=torch.float64), 1.0)
    assert best.tolist() == pytest.approx([0.75, 0.25])
    rng = torch.Generator().manual_seed(0)
    ref, r = torch.rand(5, generator=rng, dtype=torch.float64).softmax(0), torch.randn(5, generator=rng).double()

    def value(p):
        return (p * r).sum() - 0.3 * (p * (p / ref).log()).sum()

    best = maths.tilted(ref, r, 0.3)
    others = [(best.log() + 0.1 * torch.randn(5, generator=rng).double()).softmax(0) for _ in range(100)]
    assert all(value(best) > value(p) for p in others)


ROCK_PAPER_SCISSORS = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]], dtype=torch.float64)


def test_exploitability():
    """Paper beats always-rock in every case; the even mixture is beaten by nobody."""
    rock, even = torch.tensor([1.0, 0, 0]).double(), torch.full((3,), 1 / 3, dtype=torch.float64)
    assert maths.exploitability(torch.stack([rock, even]), ROCK_PAPER_SCISSORS).tolist() == pytest.approx([0.5, 0.0])


def test_nash():
    """Of rock, paper, scissors the even mixture; of a ladder its top; and nothing exploits that of a random game."""
    assert maths.nash(ROCK_PAPER_SCISSORS).tolist() == pytest.approx([1 / 3] * 3)
    ladder = torch.tensor([[0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.3, 0.4, 0.5]], dtype=torch.float64)
    assert maths.nash(ladder).tolist() == pytest.approx([1.0, 0.0, 0.0])
    x = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P = torch.sigmoid(x - x.T)
    p = maths.nash(P)
    assert float(p.sum()) == pytest.approx(1) and (p >= 0).all()
    assert float(maths.exploitability(p, P)) == pytest.approx(0, abs=1e-9)
