"""Adaptive replay ratio: the meter by hand, when the switch turns, and that it turns once."""

from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from frugal.control.methods import adaptive_rr as module
from frugal.control.methods.adaptive_rr import active_share, adaptive_rr
from frugal.control.networks import Active
from frugal.core.errors import BadRecipe
from frugal.registry import recipe
from tests.control.rows import rows
from tests.control.tinyenv import Counter
from tests.control.tinyrun import launch, small, weights


def test_the_share_by_hand():
    """Units of weight 1 and -1 on the inputs 2 and 3: one of two is active."""
    with Active() as count:
        torch.relu(torch.tensor([[2.0], [3.0]]) @ torch.tensor([[1.0, -1.0]]))
    assert (count.above, count.units) == (2, 4)


def test_every_hidden_unit_of_every_critic_is_counted_and_nothing_else():
    run = launch("sac(hidden=(16, 8), warmup=20, batch=16)", "Pendulum-v1", 30)
    batch = rows([[0.0]] * 5, obs=torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(0)))
    net, x = run.net, torch.cat([batch.state, batch.action], 1)
    above = 0
    with torch.no_grad():
        for k in range(2):
            h = x
            for i in range(2):
                h = (h @ net.weights[f"critic.{k}.{i}.weight"].T + net.weights[f"critic.{k}.{i}.bias"]).relu()
                above += int((h > 0).sum())
    assert active_share(net, batch) == above / (5 * 2 * (16 + 8))


def switched(shares, **options):
    """After which of the rounds, each of one episode, the high ratio is chosen; the meter says `shares`."""
    part = adaptive_rr(**options).fill["update.ratio"].begin(SimpleNamespace(net=None))
    ended = SimpleNamespace(ended=torch.tensor([True]), valid=torch.tensor([True]))
    chosen = []
    for share in shares:
        with mock.patch.object(module, "active_share", lambda net, batch, share=share: share):
            part.learn(None)
        part.observe(ended)
        chosen.append(part.settled)
    return chosen


def test_it_turns_where_two_checks_agree():
    """The first batch, 0.5, then checks after every other episode: of 0.4, 0.3 and 0.3005."""
    shares = [0.5, 0.4, 0.4, 0.3, 0.3, 0.3005, 0.3, 0.1]
    assert switched(shares, check=2, threshold=0.001) == [False] * 6 + [True] * 2
    assert not any(switched(shares, check=2, threshold=0.0001))


def test_only_the_last_episode_before_a_check_counts():
    """Checks after 3 episodes: the measurements of the third, 0.2, stand; those of the first two do not."""
    assert switched([0.2, 0.9, 0.2, 0.7], check=3, threshold=0.001) == [False, False, False, True]
    assert not any(switched([0.2, 0.2, 0.9, 0.2], check=3, threshold=0.001))


def test_it_never_turns_back():
    assert switched([0.5, 0.5, 0.1, 0.9], check=1, threshold=0.0) == [False, True, True, True]


def test_whatever_the_meter_says():
    """An endless threshold turns it at the first check, one below 0 never; 20 warm-up steps, episodes of 10.

    The first measurement, after 100 samples, checks nothing, though ten episodes are over; the second one does.
    """

    def steps(options):
        made = recipe(small("sac")) + adaptive_rr(**options)
        run = launch(made, lambda: Counter(length=10, continuous=True), 400)
        return run.ledger.gradient_steps

    assert steps({"check": 3, "threshold": -1.0}) == 380 // 2
    assert steps({"check": 3, "threshold": float("inf")}) == 180 // 2 + 200 * 2
    assert steps({"check": 1000, "threshold": float("inf")}) == 380 // 2


def test_equal_ratios_are_the_base():
    plain = launch(small("sac"), "Pendulum-v1", 250)
    same = launch(f"{small('sac')}+adaptive-rr(low=1.0, high=1.0, check=1)", "Pendulum-v1", 250)
    assert torch.equal(weights(same), weights(plain))


def test_it_remembers():
    part, other = (adaptive_rr(check=2).fill["update.ratio"].begin(SimpleNamespace(net=None)) for _ in range(2))
    part.episodes, part.checks, part.settled, part.reference, part.seen = 3, 1, True, 0.25, [0.2]
    other.load_state_dict(part.state_dict())
    assert vars(other) == vars(part) | {"run": other.run} and other(0, 10) == 20


def test_it_works_on_dqn():
    assert launch(f"{small('dqn')}+adaptive-rr", "CartPole-v1", 100).ledger.gradient_steps == 40


def test_nonsense_is_refused():
    for options in ({"low": 0.0}, {"high": -1.0}, {"check": 0}):
        with pytest.raises(BadRecipe, match="give ratios above 0"):
            adaptive_rr(**options)
    with pytest.raises(BadRecipe, match="on-policy"):
        recipe("control.ppo+adaptive-rr")
