"""PROPS: the loss by hand, its bound, what its data look like, which rounds are learnt from."""

import math
from types import SimpleNamespace

import pytest
import torch

from frugal.control.methods.props import LiveBehaviour, Retained, Undersampled, props
from frugal.core.errors import BadRecipe, Clash
from frugal.registry import recipe
from tests.control import test_resume as resuming
from tests.control.rows import rows
from tests.control.tinyenv import Chain, patch_of
from tests.control.tinyrun import launch, small, weights

PART = Undersampled(every=4, epochs=1, minibatches=1, lr=1e-3, clip=0.3, kl=0.0, limit=0.01, buffer=1)


def one_state(**fields) -> tuple:
    """A run whose policy chooses evenly between two actions in the only state, and the behaviour at work in it."""
    run = launch("control.ppo(hidden=(4,), steps=1, epochs=1, lr=0.0)", lambda: Chain(discrete=True), samples=1)
    with torch.no_grad():
        run.net.weights["policy.1.weight"].zero_(), run.net.weights["policy.1.bias"].zero_()
    return run, LiveBehaviour(Undersampled(**{**vars(PART), **fields}), run)


def taken(actions: list[int]) -> list:
    """Steps of one environment."""
    yes = torch.ones(1) > 0
    return [SimpleNamespace(obs=torch.ones(1, 1), act=torch.full((1, 1), float(a)), valid=yes) for a in actions]


@torch.no_grad()
def chance(run, phi, action: int) -> float:
    return run.net.law(torch.ones(1, 1), weights=phi).logp(torch.tensor([[float(action)]])).exp().item()


def test_one_step_by_hand():
    """D = {1,1,0,1}, pi even, so g = 2 phi(a): the loss 2 (3 phi(1) + phi(0)) / 4 has the derivative 1/4 by the logit
    of 1 and -1/4 by that of 0. Adam's first step is lr against the sign of each weight's gradient: of both biases, and
    of the second layer's weights against the sign of the hidden units h.
    """
    run, live = one_state()
    with torch.no_grad():
        (phi,) = live(run.net, taken([1, 1, 0, 1]))
    h = torch.tanh(run.net.weights["policy.0.weight"] @ torch.ones(1) + run.net.weights["policy.0.bias"]).detach()
    assert phi["policy.1.bias"].tolist() == pytest.approx([1e-3, -1e-3], rel=1e-3)
    torch.testing.assert_close(phi["policy.1.weight"], 1e-3 * torch.stack([h.sign(), -h.sign()]), rtol=1e-3, atol=0)
    assert chance(run, phi, 1) == pytest.approx(1 / (1 + math.exp(2e-3 * (1 + h.abs().sum()))), rel=1e-5)
    assert run.net.weights["policy.1.bias"].tolist() == [0, 0], "theta stays"
    assert phi["critic.0.weight"] is run.net.weights["critic.0.weight"]


def test_an_action_taken_always_loses_a_share_of_clip_at_most_and_what_is_divergent_is_not_stepped():
    """Uniform pi and D = {1,1}: there is no gradient below 0.5 (1 - clip), and what is left of Adam's momentum are ten
    steps of less than 0.003 each, in probability.
    """
    run, live = one_state(epochs=1000, limit=math.inf)
    with torch.no_grad():
        (phi,) = live(run.net, taken([1, 1, 1, 1]))
    assert 0.35 - 0.03 < chance(run, phi, 1) < 0.35
    run, live = one_state(epochs=1000, limit=1e-3)
    with torch.no_grad():
        (phi,) = live(run.net, taken([1, 1, 1, 1]))
    g = 2 * chance(run, phi, 1)
    assert 1e-3 < g - 1 - math.log(g) < 1.3e-3


def test_the_penalty_holds_it_back():
    """The least of 2 phi + 10 KL((1/2, 1/2), (phi, 1 - phi)) is at phi = 1/2 - x with 2 = 10 x / (1/4 - x^2)."""
    run, live = one_state(epochs=1500, limit=math.inf, clip=1.0, kl=10.0)
    with torch.no_grad():
        (phi,) = live(run.net, taken([1, 1, 1, 1]))
    x = (math.sqrt(26) - 5) / 2
    assert chance(run, phi, 1) == pytest.approx(0.5 - x, abs=2e-3)


def test_the_data_are_nearer_to_the_policy_than_independent_draws():
    """64 draws from two even actions, 16 times: their share errs by 0.05 on average where draws are independent."""

    def errors(**fields) -> float:
        run, live = one_state(**fields)
        wrong = []
        for seed in range(16):
            rng, steps = torch.Generator().manual_seed(seed), []
            for _ in range(64):
                with torch.no_grad():
                    (phi,) = live(run.net, steps)
                    a, _ = run.net.law(torch.ones(1, 1), weights=phi).sample(rng)
                steps += taken([int(a)])
            wrong.append(abs(sum(float(step.act) for step in steps) / 64 - 0.5))
        return sum(wrong) / 16

    assert errors(epochs=8, lr=3e-2, limit=0.1) < errors(epochs=0) / 2


def test_behaviour_starts_from_theta_each_time_and_looks_at_earlier_rounds():
    run, live = one_state(buffer=2, epochs=16)
    with torch.no_grad():
        (phi,) = live(run.net, [])
        assert chance(run, phi, 1) == 0.5, "nothing was taken yet"
        live.learn(rows([[0.0] * 4], obs=torch.ones(1, 4, 1), act=torch.ones(1, 4, 1)))
        (phi,) = live(run.net, [])
        first = chance(run, phi, 1)
        assert first < 0.5
        (phi,) = live(run.net, taken([0, 0, 0]))
        assert chance(run, phi, 1) == first, "three of four steps"
        (phi,) = live(run.net, taken([0, 0, 0, 0, 0, 0, 0, 0]))
        assert chance(run, phi, 1) > 0.5
        live.learn(rows([[0.0] * 4], obs=torch.ones(1, 4, 1), act=torch.zeros(1, 4, 1)))
        assert len(live.past) == 1 and live.past[0][1].sum() == 0


def test_rounds_are_kept_and_come_back_from_a_checkpoint():
    windows = [rows([[float(i)] * 2], columns={"twice": torch.full((1, 2, 1), float(i))}) for i in range(4)]
    live, seen = Retained(3).begin(None), []
    for window in windows:
        seen.append([float(w.reward[0, 0]) for w in live(window)])
        live.learn(window)
    assert seen == [[0], [0, 1], [0, 1, 2], [1, 2, 3]]
    other = Retained(3).begin(None)
    other.load_state_dict(live.state_dict())
    again = other(rows([[4.0] * 2], columns={"twice": torch.zeros(1, 2, 1)}))
    assert [float(w.columns["twice"][0, 0, 0]) for w in again] == [2, 3, 0] and again[0].rng is again[2].rng
    assert [w.reward.tolist() for w in again] == [[[2, 2]], [[3, 3]], [[4, 4]]]
    assert Retained(1).begin(None)(windows[0]) == [windows[0]]


def test_a_round_is_kept_once_it_was_learnt_from():
    live = Retained(2).begin(None)
    live(rows([[0.0]]))  # then a gradient was no number
    assert len(live(rows([[1.0]]))) == 1


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    text = small("control.ppo", envs=2) + "+props(every=4, epochs=2)"
    monkeypatch.setitem(resuming.RUNS, "props", (text, "CartPole-v1"))
    resuming.test_a_run_killed_at_any_line_of_its_curve_resumes_to_the_same_bits("props", tmp_path)


def test_whole_episodes_and_continuous_actions():
    for base, task in (("control.reinforce", "CartPole-v1"), ("control.ppo", "Pendulum-v1")):
        made = recipe(small(base, envs=2) + "+props(every=8)")
        assert torch.isfinite(weights(launch(made, task))).all()


def test_clashes_and_nonsense():
    other = patch_of("other", fill={"act.behaviour": PART})
    for one, two in ((props(), other), (other, props())):
        with pytest.raises(Clash, match=r"act\.behaviour"):
            recipe("control.ppo") + one + two
    for text in ("a2c+props+stream-x", "a2c+stream-x+props"):
        with pytest.raises(Clash, match="no data to make up for"):
            recipe(text)
    with pytest.raises(BadRecipe, match="off-policy loop"):
        recipe("sac+props")
    with pytest.raises(BadRecipe, match="at least 1"):
        props(buffer=0)
