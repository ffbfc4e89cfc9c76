"""Lot-sizing: a step by hand, the parts of its reward, and what is known before demand."""

import numpy as np
import pytest

from frugal.control.find import find_environment
from frugal.control.tasks.lot_sizing import HORIZON, LotSizing


class Demand:
    """In place of a generator: what is asked for, whatever the mean."""

    def __init__(self, *demand):
        self.demand = np.array(demand)

    def poisson(self, mean, size):
        return self.demand


def begun(stock=(0, 0, 0), setup=(0, 0), demand=(0, 0, 0)):
    env = LotSizing()
    env.reset(seed=0)
    env.stock, env.setup, env._np_random = np.array(stock, float), np.array(setup), Demand(*demand)
    return env


def test_a_step_by_hand():
    """Machine 1 stays at item 1 (20 units), machine 2 goes over to item 3 (20 - 1 units, costs 0.1); demand 25, 1, 4.

    Stocks 0, 2, 3 become 20, 2, 22 and then -5, 1, 18: 5 sales are lost at 0.03, 19 units held at 0.002.
    """
    env = begun((0, 2, 3), (1, 2), (25, 1, 4))
    obs, reward, over, cut, info = env.step(np.array([1, 3]))
    assert info["post"] == pytest.approx([20 / 60, 2 / 60, 22 / 60, 0, 0, 1, 0, 0, 0, 0, 0, 1])
    assert info["post_reward"] == -0.1
    assert obs == pytest.approx([0, 1 / 60, 18 / 60, 1 / HORIZON, 0, 1, 0, 0, 0, 0, 0, 1])
    assert reward == pytest.approx(-(0.1 + 5 * 0.03 + 19 * 0.002)) and not over and not cut


def test_both_machines_may_make_one_item_and_an_idle_one_forgets_its_setup():
    env = begun(setup=(2, 2))
    assert env.step(np.array([2, 2]))[4]["post"][1] == pytest.approx((12 + 14) / 60)
    assert env.step(np.array([0, 2]))[4]["post_reward"] == 0.0
    assert env.step(np.array([2, 2]))[4]["post_reward"] == -0.1, "set up again"


def test_stocks_are_bounded_and_the_episode_has_its_length():
    env = begun(stock=(55, 0, 0), setup=(1, 1))
    for t in range(HORIZON):
        obs, _, over, cut, _ = env.step(np.array([1, 1]))
        assert obs[0] == 1.0 and over == (t == HORIZON - 1) and not cut


def test_what_is_known_before_demand_does_not_depend_on_it():
    posts, after = [], []
    for seed in range(5):
        env = find_environment("frugal/LotSizing-v0")()
        env.reset(seed=seed)
        env.unwrapped.stock = np.array([10.0, 10.0, 10.0])
        obs, *_, info = env.step(np.array([1, 2]))
        posts.append(info["post"].tolist()), after.append(obs.tolist())
    assert all(post == posts[0] for post in posts) and len(set(map(tuple, after))) == 5
