"""Snapshots of simulators, seen as the environment's wrappers show them."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from frugal.control.states import restore_state, save_state
from frugal.core.errors import BadTask


@pytest.mark.parametrize("task", ("Pendulum-v1", "CartPole-v1", "InvertedPendulum-v5"))
def test_what_follows_a_restored_state_is_what_followed_it_before(task):
    env = gymnasium.make(task)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    state, a = save_state(env), env.action_space.sample()
    after = env.step(a)[0]
    env.reset(seed=1)
    restore_state(env, state)
    np.testing.assert_array_equal(env.step(a)[0], after)


def test_an_observation_of_a_restored_state_goes_through_the_wrappers():
    plain = gymnasium.make("Pendulum-v1")
    env = TransformObservation(plain, lambda obs: 10 * obs + 1, Box(-100.0, 100.0, (3,)))
    env.reset(seed=0)
    before = env.step(np.array([1.0]))[0]
    np.testing.assert_allclose(restore_state(env, save_state(env)), before, rtol=1e-6)


def test_a_wrapper_that_remembers_is_refused():
    env = FrameStackObservation(gymnasium.make("Pendulum-v1"), 2)
    env.reset(seed=0)
    with pytest.raises(BadTask, match="FrameStackObservation shows more than the present state"):
        restore_state(env, save_state(env))
