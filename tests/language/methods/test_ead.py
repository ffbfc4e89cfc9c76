"""Exploratory annealed decoding: the schedule by hand, and what the loop does with it."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

import frugal
from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.ead import ead
from frugal.language.recipes import grpo
from frugal.language.sampler import sample
from tests.language.tinyrun import policy


def schedule(clock: int = 0, **options) -> list[float]:
    """tau_t of the first 60 tokens in the round `clock`."""
    part = ead(**options).add["act.temperature"].begin(SimpleNamespace(clock=clock))
    return [part(torch.zeros(1, 2), t) for t in range(60)]


def test_by_hand():
    """hot = 1.2, d = 10: tau_t = 2.2 - exp(t / 10) until it meets cold = 0.3 at exp(t / 10) = 1.9."""
    tau = schedule(hot=1.2, cold=0.3, horizon=10.0)
    assert tau[0] == pytest.approx(1.2)
    assert tau[5] == pytest.approx(2.2 - 1.6487213, abs=1e-6)
    assert tau[6] == pytest.approx(2.2 - 1.8221188, abs=1e-6)
    assert tau[7] == 0.3


@pytest.mark.parametrize("d", [0.5, 5.0, 12.0, 1000.0])
def test_starts_hot_never_rises_and_never_falls_below_cold(d):
    tau = schedule(hot=1.3, cold=0.2, horizon=d)
    assert tau[0] == pytest.approx(1.3)
    assert all(a >= b for a, b in pairwise(tau))
    assert min(tau) >= 0.2
    assert min(tau) == 0.2 or d == 1000.0


def test_an_endless_horizon_is_a_constant_temperature():
    assert schedule(hot=1.3, horizon=1e12) == pytest.approx([1.3] * 60)


def test_the_horizon_grows_to_its_limit_and_stays():
    """d_s = 25 + 5 s reaches 40000 at s = (40000 - 25) / 5 = 7995."""
    part = ead(horizon=25.0, growth=5.0).add["act.temperature"]

    def d(s: int) -> float:
        return 1000 / math.log(1 + 1.2 - part.at(1000, s))

    assert d(300) == pytest.approx(25 + 5 * 300)
    assert d(7994) == pytest.approx(39995)
    assert d(7995) == pytest.approx(40000)
    assert d(20000) == pytest.approx(40000)
    assert schedule(clock=300, horizon=25.0, growth=5.0) == [part.at(t, 300) for t in range(60)]


def test_the_first_tokens_may_be_spared():
    spared, plain = schedule(skip=3), schedule()
    assert spared[:3] == [1.0, 1.0, 1.0]
    assert spared[3:] == plain[3:]


def test_hot_and_cold_of_one_is_no_annealing():
    assert schedule(hot=1.0, cold=1.0) == [1.0] * 60


def test_the_weight_undoes_the_temperature():
    """What was sampled at tau_t has behaviour = softmax(z / tau_t); w = min(pi_old / behaviour, cap)."""
    net = policy()
    part = ead(hot=1.5, cold=0.2, horizon=3.0).add["act.temperature"].begin(SimpleNamespace(clock=0))
    u = torch.rand(1, 6, generator=torch.Generator().manual_seed(1))
    got = sample(net, [(2, 3)], torch.tensor([0]), torch.tensor([6]), u, torch.tensor([False]), part)
    weights = ead(cap=1.25).add["credit.weights.correction"]
    w = weights(torch.zeros_like(got.old), SimpleNamespace(old=got.old, behaviour=got.behaviour))
    ids = torch.tensor([[2, 3, *got.tokens[0].tolist()]])
    z = net.model(ids).logits[0, 1:-1].detach()
    seen = []
    for t, token in enumerate(got.tokens[0].tolist()):
        tau = max(2.5 - math.exp(t / 3), 0.2)
        mine = float((z[t].softmax(0) / (z[t] / tau).softmax(0))[token])
        seen.append(mine)
        assert float(w[0, t]) == pytest.approx(min(mine, 1.25), rel=1e-4)
    assert max(seen) > 1.25 or min(seen) < 0.8, "the example shows no correction"


def test_the_weight_can_be_left_out():
    assert set(ead(cap=None).add) == {"act.temperature"}
    part = ead().add["credit.weights.correction"]
    with pytest.raises(Clash, match="cap=None"):
        grpo() + ead() + frugal.core.recipe.Patch(add={"credit.weights.correction": (part, 1)}, name="other")


@pytest.mark.parametrize(
    "options", [{"hot": 0.5, "cold": 0.6}, {"cold": 0.0}, {"horizon": 0.0}, {"growth": -1.0}, {"skip": -1}]
)
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="give"):
        ead(**options)
