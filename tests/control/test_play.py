"""Policies on disk: they act as they did in the run, without it."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from frugal.control.play import play
from frugal.control.policy import load
from frugal.core.errors import BadRun, MissingExtra
from frugal.registry import usual_task
from tests.control.tinyenv import Counter, Pictures, Tasked
from tests.control.tinyrun import SMALL, launch, small


@pytest.mark.parametrize("base", sorted(SMALL))
def test_a_saved_policy_acts_as_the_run_s(base, tmp_path):
    run = launch(small(base, normalise=True), usual_task(base), out=tmp_path / "a")
    policy = load(tmp_path / "a" / "model")
    obs = torch.randn(6, *run.spaces.shape)
    assert torch.equal(policy.act(obs), run.net.deploy(run.net, obs))
    env = gymnasium.make(usual_task(base))
    assert env.action_space.contains(policy(env.observation_space.sample()))
    about = json.loads((tmp_path / "a" / "model" / "policy.json").read_text())
    assert about["recipe"] == str(policy.recipe) and about["task"] == usual_task(base)


class Acts(Counter):
    """Takes actions of a space, and no others."""

    def __init__(self, space):
        super().__init__()
        self.action_space = space

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(action)


@pytest.mark.parametrize(
    "base,space",
    [
        ("sac", Box(-2, 1, (2, 3), np.float32)),
        ("td3", Box(-2, 1, (1,), np.float64)),
        ("control.ppo", MultiBinary((2, 3))),
        ("control.ppo", MultiDiscrete([3])),
        ("dqn", Discrete(3, start=1)),
    ],
)
def test_an_action_has_the_environment_s_own_shape_and_dtype(base, space, tmp_path):
    launch(small(base), lambda: Acts(space), out=tmp_path / "a")
    action = load(tmp_path / "a" / "model")(np.zeros(2, np.float32))
    assert space.contains(action) and (action.shape, action.dtype) == (space.shape, space.dtype)


def test_play_prints_what_evaluation_would_see(tmp_path):
    launch(small("dqn"), "CartPole-v1", out=tmp_path / "a")
    returns = play(tmp_path / "a", 4, seed=1, gif=None)
    assert len(returns) == 4 and returns == play(tmp_path / "a", 4, seed=1, gif=None)
    env, policy = gymnasium.make("CartPole-v1"), load(tmp_path / "a" / "model")
    seed = int(np.random.SeedSequence([1, 0, 0]).generate_state(1)[0])
    obs, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        total, over = total + reward, terminated or truncated
    assert returns[0] == total


def test_a_picture_may_come_with_its_channels_first(tmp_path):
    launch(small("dqn"), Pictures, out=tmp_path / "a")
    policy, asked = load(tmp_path / "a" / "model"), []
    policy.act = lambda obs: asked.append(obs) or torch.zeros(1, 1)
    picture = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    policy(picture), policy(np.moveaxis(picture, 2, 0))
    assert torch.equal(*asked) and torch.equal(asked[0][0], torch.from_numpy(picture))


def shown(gif):
    """(size, milliseconds); frames that are alike are one that stays longer."""
    from PIL import Image, ImageSequence

    with Image.open(gif) as picture:
        return picture.size, sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture))


def test_a_gif_is_written_or_the_extra_named(tmp_path):
    launch(small("dqn"), "CartPole-v1", out=tmp_path / "a")
    gif = tmp_path / "a.gif"
    try:
        import pygame  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"frugal-rl\[play\]"):
            play(tmp_path / "a", 1, seed=0, gif=gif)
        return
    returns = play(tmp_path / "a", 1, seed=0, gif=gif)
    assert shown(gif) == ((600, 400), (returns[0] + 1) * 20)


class Drawn(Tasked):
    """Pictures of the step."""

    metadata = {"render_fps": 50}

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        return np.full((4, 4, 3), 40 * self.t, np.uint8)


def test_a_gif_shows_the_first_episode_on_its_own_task(tmp_path):
    launch(small("dqn"), Drawn, out=tmp_path / "a")
    lengths = set()
    for seed in range(6):
        (ret,) = play(tmp_path / "a", 1, seed, tmp_path / "a.gif", Drawn)
        assert shown(tmp_path / "a.gif") == ((4, 4), (ret + 1) * 20)
        lengths.add(ret)
    assert len(lengths) > 1


def test_what_holds_no_policy_says_so(tmp_path):
    with pytest.raises(BadRun, match="no policy"):
        load(tmp_path)
    launch(small("dqn"), "CartPole-v1", out=tmp_path / "a")
    (tmp_path / "a" / "model" / "policy.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadRun, match="damaged"):
        load(tmp_path / "a" / "model")
