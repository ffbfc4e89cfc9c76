"""Policies on disk: they act as they did in the run, without it."""

import json

import gymnasium
import numpy as np
import pytest
import torch

from frugal.control.play import play
from frugal.control.policy import load
from frugal.core.errors import BadRun, MissingExtra
from frugal.registry import usual_task
from tests.control.tinyenv import Pictures
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
    from PIL import Image

    with Image.open(gif) as picture:
        assert picture.n_frames == returns[0] + 1 and picture.size == (600, 400)


def test_what_holds_no_policy_says_so(tmp_path):
    with pytest.raises(BadRun, match="no policy"):
        load(tmp_path)
    launch(small("dqn"), "CartPole-v1", out=tmp_path / "a")
    (tmp_path / "a" / "model" / "policy.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadRun, match="damaged"):
        load(tmp_path / "a" / "model")
