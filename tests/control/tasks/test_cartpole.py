"""CartPole with tasks: constants follow the task, observations tell it, and states can be put back."""

import gymnasium
import numpy as np
import pytest
import torch

from frugal.control.env import Environments, environments
from frugal.control.find import find_environment
from frugal.core.errors import BadTask

NAME = "frugal/CartPole-v0(length=(0.25, 1.25), force_mag=(5.0, 20.0))"


def made(name: str = NAME) -> Environments:
    return environments(find_environment(name), 1, 0, name)


def test_the_task_is_drawn_evenly_and_told_scaled():
    env, tasks = made(), []
    assert env.spaces.task_low == (0.25, 5.0) and env.spaces.task_high == (1.25, 20.0) and env.spaces.shape == (6,)
    for _ in range(400):
        obs = env.begin(torch.arange(1))
        task = env.tasks[0]
        torch.testing.assert_close(obs[0, 4:], (task - torch.tensor([0.25, 5.0])) / torch.tensor([1.0, 15.0]))
        tasks.append(obs[0, 4:])
    assert (torch.stack(tasks).mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 400) ** 0.5


@pytest.mark.parametrize("length,force", [(0.5, 10.0), (1.0, 15.0)])
def test_dynamics_are_those_of_gymnasium_with_the_same_constants(length, force):
    env = made()
    env.begin(torch.arange(1), [{"task": [[length, force]]}])
    plain = gymnasium.make("CartPole-v1").unwrapped
    plain.reset(seed=0)
    plain.length, plain.force_mag, plain.polemass_length = length, force, 0.1 * length
    plain.state = env.envs[0].unwrapped.get_state()
    for i in range(8):
        step = env.step(torch.tensor([[float(i % 2)]]))
        wanted, reward, *_ = plain.step(i % 2)
        np.testing.assert_array_equal(step.next[0, :4].numpy(), wanted)
        assert step.reward.item() == reward


def test_an_episode_can_begin_in_a_saved_state():
    env = made()
    task = [[0.5, 15.0]]
    env.begin(torch.arange(1), [{"task": task}])
    env.step(torch.ones(1, 1))
    state, after = env.snapshot(0), env.step(torch.ones(1, 1)).next
    env.begin(torch.arange(1), [{"task": task, "state": [state]}])
    assert torch.equal(env.step(torch.ones(1, 1)).next, after)


def test_no_range_is_no_task():
    with pytest.raises(BadTask, match="no range"):
        find_environment("frugal/CartPole-v0")()


@pytest.mark.parametrize("inside", ("lenght=(0.5, 1.0)", "length=0.5", "length=(1.0, 0.5)", "tau=(0.01, 0.02)"))
def test_a_wrong_range_says_which_are_right(inside):
    with pytest.raises(BadTask, match="give one of gravity, masscart, masspole, length, force_mag a range"):
        find_environment(f"frugal/CartPole-v0({inside})")()
