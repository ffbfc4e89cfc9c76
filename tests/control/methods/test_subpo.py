"""SubPO: marginal gains by hand, that they add up to the set function, and when they are plain rewards."""

import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from frugal.control.methods.subpo import Gains, subpo
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.core.recipe import Patch
from frugal.registry import recipe
from tests.control.rows import rows
from tests.control.tinyrun import launch, weights


def gains(covers, lengths=None, modular=False):
    """r [N,T] of covers [N,T,M]."""
    c = torch.tensor(covers)
    batch = rows([[0.0] * c.shape[1]] * len(c), lengths, columns={"covers": c})
    return subpo(modular).add["credit.rewards.task"](batch)


def test_by_hand():
    """Item 1 of worth 2, both, item 2 of worth 5, item 1 again: 2, then 0.5 of item 2, then the rest, then nothing."""
    path = [[2.0, 0.0], [2.0, 0.5], [0.0, 5.0], [2.0, 0.0]]
    assert gains([path]).tolist() == [[2.0, 0.5, 4.5, 0.0]]
    assert gains([path], modular=True).tolist() == [[2.0, 2.5, 5.0, 2.0]]


def test_rows_are_episodes_of_their_own_and_nothing_is_gained_after_an_end():
    assert gains([[[1.0], [3.0], [0.0]], [[3.0], [1.0], [4.0]]], [2, 3]).tolist() == [[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]]


def test_gains_are_those_of_the_set_function_written_out():
    """F(S) = sum_m max_{s in S} c_m(s), F of nothing 0; gains add up to F of the path and diminish."""
    draw = random.Random(0)
    for _ in range(20):
        path = [[draw.choice([0.0, 0.0, draw.random()]) for _ in range(4)] for _ in range(6)]

        def F(states):
            return sum(max((s[m] for s in states), default=0.0) for m in range(4))

        wanted = [F(path[: t + 1]) - F(path[:t]) for t in range(6)]
        found = gains([path])[0].tolist()
        assert found == pytest.approx(wanted, abs=1e-6) and sum(found) == pytest.approx(F(path), abs=1e-5)
        alone = gains([path], modular=True)[0].tolist()
        assert all(0 <= gain <= worth + 1e-6 for gain, worth in zip(found, alone, strict=True))


class Corridor(gymnasium.Env):
    """Every step enters a cell of its own, of a worth that the action decides and the reward says."""

    observation_space, action_space = Box(0, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        covers = np.zeros(5, np.float32)
        covers[self.t] = 1 + action
        self.t += 1
        return np.full(1, self.t / 5, np.float32), float(covers.sum()), self.t == 5, False, {"covers": covers}


def test_an_additive_function_gives_reinforce():
    plain = launch("control.reinforce(envs=3)", Corridor, 150)
    for options in ("", "(modular=True)"):
        same = launch(f"control.reinforce(envs=3)+subpo{options}", Corridor, 150)
        assert torch.equal(weights(same), weights(plain))


def test_coverage_is_credited_where_it_is_gained():
    """The environment tells its reward at the end of 40 steps; gains have the same sum, earlier.

    The budget cuts the last episodes: they are told nothing, and gain what they have covered.
    """
    seen = []

    class Spy:
        def begin(self, run):
            self.inner = Gains(False)
            return self

        columns = ("covers",)

        def __call__(self, batch):
            seen.append((batch.reward, self.inner(batch), batch.columns["covers"]))
            return seen[-1][1]

    made = recipe("control.reinforce(envs=4)") + Patch(
        name="spy", domain="control", add={"credit.rewards.task": Spy()}, set={"steps": 0}
    )
    launch(made, "frugal/Coverage-v0", 400)
    told, gained, covers = seen.pop()
    assert told.tolist() == [[0.0] * 20] * 4
    torch.testing.assert_close(gained.sum(1), covers.amax(1).sum(1), rtol=1e-5, atol=0)
    assert len(seen) == 2
    for told, gained, _ in seen:
        assert (told[:, :-1] == 0).all() and (gained[:, 0] > 0).all()
        torch.testing.assert_close(gained.sum(1), told[:, -1], rtol=1e-5, atol=0)


def test_an_environment_that_covers_nothing_is_refused():
    with pytest.raises(BadTask, match="'covers'"):
        launch("control.reinforce+subpo", "CartPole-v1", 50)


def test_rounds_are_whole_episodes():
    assert recipe("control.ppo+subpo").settings.steps == 0
    with pytest.raises(Clash, match=r"you chose it for control\.ppo"):
        recipe("control.ppo(steps=64)+subpo")
    with pytest.raises(BadRecipe, match="off-policy"):
        recipe("sac+subpo")


@pytest.mark.parametrize("turned", [False, True])
def test_two_owners_of_the_task_s_reward_clash(turned):
    a, b = ("subpo", "pdppo") if turned else ("pdppo", "subpo")
    with pytest.raises(Clash, match=r"credit\.rewards\.task"):
        recipe(f"control.ppo+{a}+{b}")
