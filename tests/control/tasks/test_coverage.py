"""Coverage: what a walk is worth, against sets of cells written out."""

import numpy as np
import pytest

from frugal.control.find import find_environment
from frugal.control.tasks.coverage import HORIZON, SIDE, START, Coverage, density


def walk(actions):
    """(rewards, covers [T,400], cells entered) of a walk."""
    env = Coverage()
    env.reset()
    rewards, covers, cells = [], [], []
    for action in actions:
        _, reward, over, cut, info = env.step(action)
        rewards.append(reward), covers.append(info["covers"]), cells.append(tuple(env.at))
        assert not cut and over == (len(rewards) == HORIZON)
    return rewards, np.array(covers), cells


def test_an_episode_is_worth_the_density_seen_and_is_told_so_at_its_end():
    rng = np.random.default_rng(0)
    for _ in range(5):
        rewards, covers, cells = walk(rng.integers(0, 5, HORIZON))
        seen = {(x + dx, y + dy) for x, y in cells for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))}
        inside = [(x, y) for x, y in seen if 0 <= x < SIDE and 0 <= y < SIDE]
        worth = sum(density()[cell] for cell in inside)
        assert rewards[:-1] == [0.0] * (HORIZON - 1) and rewards[-1] == pytest.approx(worth)
        assert covers.max(0).sum() == pytest.approx(worth)


def test_staying_is_worth_one_disc_however_long():
    rewards, covers, cells = walk([0] * HORIZON)
    assert set(cells) == {START} and rewards[-1] == pytest.approx(covers[0].sum())
    assert (covers[0] > 0).sum() == 5 and density().sum() == pytest.approx(100)


def test_walls_hold_and_the_disc_ends_there():
    env = find_environment("frugal/Coverage-v0")()
    env.reset(seed=0)
    for _ in range(12):
        obs, *_, info = env.step(2)
    assert obs[0] == -1.0 and obs[2] == pytest.approx(12 / HORIZON)
    assert (info["covers"] > 0).sum() == 4
