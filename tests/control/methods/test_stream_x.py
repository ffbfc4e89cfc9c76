"""stream-x: its bounded step by hand, its three agents against the same algorithms in NumPy, its small parts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from frugal.control.methods.stream_x import ScaledReward, bounded, sparse
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.registry import recipe
from tests.control.methods.resuming import same_after_a_kill
from tests.control.tinyenv import Chain, Pictures, patch_of
from tests.control.tinyrun import launch

LINEAR = "network=False, normalise=False, scale=False"


@pytest.mark.parametrize("delta,moves", [(0.5, 0.25), (-0.5, -0.25), (3.0, 0.5), (0.0, 0.0)])
def test_a_prediction_of_one_feature_moves_half_way_and_never_past(delta, moves):
    """lr = 1, kappa = 2, z = (0,1,0): M = 2 max(|delta|, 1), so that w moves by delta / M."""
    delta, z = torch.tensor([delta]), torch.tensor([0.0, 1.0, 0.0])
    assert (bounded(1.0, 2.0, delta, z) * delta * z).tolist() == pytest.approx([0, moves, 0])


def test_a_small_step_is_not_bounded():
    assert bounded(0.1, 2.0, torch.tensor([2.0]), torch.tensor([1.0, -1.0])).tolist() == pytest.approx([0.1])  # M = 0.8


@pytest.mark.parametrize("inputs,kept", [(4, 1), (9, 1), (10, 1), (25, 2), (128, 12)])
def test_each_unit_keeps_a_tenth_of_its_weights(inputs, kept):
    w = sparse(300, inputs, torch.Generator().manual_seed(0))
    assert ((w != 0).sum(1) == kept).all() and w.abs().max() <= inputs**-0.5
    share = (w != 0).double().mean(0)
    assert (share - kept / inputs).abs().max() < 5 * (kept / inputs / 300) ** 0.5, "each weight is kept as often"


def test_rewards_are_divided_by_the_spread_of_their_discounted_sum():
    """gamma = 0.5: u = 2, 5, then an episode ends; 1. Spreads 1 (of one), sqrt(4.5), sqrt(13/3)."""
    run = SimpleNamespace(settings=SimpleNamespace(gamma=0.5))
    scale, said = ScaledReward().begin(run), []
    for reward, ended in ((2.0, False), (4.0, True), (1.0, False)):
        r = torch.tensor([reward])
        scale.observe(SimpleNamespace(reward=r, ended=torch.tensor([ended])))
        said.append(float(scale(SimpleNamespace(reward=r))))
    assert said == pytest.approx([2.0, 4 / 4.5**0.5, 1 / (13 / 3) ** 0.5])


class Noted:
    """Keeps every transition, and the weights before the first."""

    def begin(self, run):
        self.run, self.steps, self.start = run, [], None
        return self

    def __call__(self, net, obs):
        return net.law(obs).mode

    def observe(self, step):
        if self.start is None:
            self.start = {k: w.detach().double().numpy().copy() for k, w in self.run.net.weights.items()}
        self.steps.append((*(x[0].double().numpy() for x in (step.obs, step.next, step.act)), step))


def softmax(x):
    p = np.exp(x - x.max())
    return p / p.sum()


def reference(agent: str, noted: Noted, gamma: float, lr: float, lam: float, kappa: tuple[float, float], tau: float):
    """The algorithms for linear networks, in float64: the final weights by name."""
    w = {k.replace(".0.", "."): x for k, x in noted.start.items()}
    z = {k: np.zeros_like(x) for k, x in w.items()}

    def value(x):
        return w["critic.weight"] @ x + w["critic.bias"]

    for obs, after, act, step in noted.steps:
        a = int(act[0])
        predicted = value(obs)
        v = predicted[a] if agent == "q" else predicted[0]
        delta = float(step.reward[0]) + gamma * (not step.term[0]) * value(after).max() - v
        unit = np.eye(len(predicted))[a if agent == "q" else 0]
        g = {"critic.weight": np.outer(unit, obs), "critic.bias": unit}
        if agent == "ac":
            p = softmax(w["policy.weight"] @ obs + w["policy.bias"])
            entropy = -(p * np.log(p)).sum()
            up = np.eye(len(p))[a] - p + tau * np.sign(delta) * -p * (np.log(p) + entropy)
            g |= {"policy.weight": np.outer(up, obs), "policy.bias": up}
        for name, own in (("critic", kappa[0]), ("policy", kappa[1])):
            mine = [k for k in g if k.startswith(name)]
            for k in mine:
                z[k] = gamma * lam * z[k] + g[k]
            M = lr * own * max(abs(delta), 1) * sum(np.abs(z[k]).sum() for k in mine)
            for k in mine:
                w[k] = w[k] + lr / max(M, 1) * delta * z[k]
        if step.ended[0] or (agent == "q" and a != predicted.argmax()):
            z = {k: np.zeros_like(x) for k, x in z.items()}
    return w


@pytest.mark.parametrize("agent", ("ac", "q", "td"))
@pytest.mark.parametrize("lr", (1.0, 1e-3))
def test_linear_agents_equal_those_in_numpy(agent, lr):
    noted = Noted()
    more = {"ac": ", tau=0.1, kappa_policy=3.0", "q": ", epsilon=(0.5, 0.5, 1.0)", "td": ""}[agent]
    text = f"a2c(hidden=(), gamma=0.9)+stream-x(agent='{agent}', lr={lr}, lam=0.7, {LINEAR}{more})"
    made = recipe(text.replace(", kappa_policy=3.0", "")) + patch_of("noted", fill={"act.deploy": noted})
    run = launch(made, "CartPole-v1", 200)
    assert len(noted.steps) == 200 == run.ledger.gradient_steps and sum(bool(s.term) for *_, s in noted.steps) >= 3
    wanted = reference(agent, noted, 0.9, lr, 0.7, (2.0, 3.0), 0.1)
    for name, w in run.net.weights.items():
        np.testing.assert_allclose(w.detach().numpy(), wanted[name.replace(".0.", ".")], rtol=1e-3, atol=1e-5)


def test_td_finds_the_value_of_a_chain_and_leaves_the_policy_alone():
    """Reward 1, cut after one step, gamma = 0.8: v = 1 / (1 - 0.8)."""
    noted = Noted()
    made = recipe(f"a2c(hidden=(), gamma=0.8)+stream-x(agent='td', {LINEAR})")
    run = launch(made + patch_of("noted", fill={"act.deploy": noted}), lambda: Chain(discrete=True), 300)
    v = run.net.critic(run.net.weights, torch.ones(1, 1)).detach()
    assert float(v) == pytest.approx(5.0, abs=1e-3)
    for name, w in run.net.weights.items():
        if name.startswith("policy."):
            assert torch.equal(w.detach().double(), torch.from_numpy(noted.start[name]))


def test_continuous_actions_and_several_layers_train():
    before: list[Any] = []
    run = launch("a2c(hidden=(16, 16))+stream-x", "Pendulum-v1", 100, reporter=lambda r, _: before.append(r))
    assert all(torch.isfinite(w).all() for w in run.net.weights.values()) and run.ledger.gradient_steps == 100
    assert (run.net.weights["policy.log_std"] != 0).all()


def test_options_of_another_agent_and_environments_that_do_not_fit_are_refused():
    for text in ("agent='sarsa'", "agent='q', tau=0.1", "agent='td', kappa_policy=1.0", "epsilon=(1.0, 0.1, 0.5)"):
        with pytest.raises(BadRecipe, match="stream-x"):
            recipe(f"a2c+stream-x({text})")
    with pytest.raises(BadTask, match="one discrete action"):
        launch("a2c(hidden=(8,))+stream-x(agent='q')", "Pendulum-v1", 20)
    with pytest.raises(BadTask, match="normalise=True, or the patch"):
        launch("a2c(hidden=(8,))+stream-x", Pictures, 20)
    with pytest.raises(BadTask, match="no pictures"):
        launch("a2c(hidden=(8,))+stream-x(normalise=False)", Pictures, 20)


def test_what_it_makes_dead_or_sets_clashes():
    for text in ("lr=1e-3", "entropy=0.1", "steps=5", "envs=2", "lam=0.9", "value=1.0", "max_grad_norm=1.0"):
        with pytest.raises(Clash, match="stream-x"):
            recipe(f"a2c({text})+stream-x")
    assert recipe("a2c(gamma=0.9)+stream-x").settings.gamma == 0.9


@pytest.mark.parametrize("agent", ("ac", "q"))
def test_traces_and_moments_survive_a_kill(agent, tmp_path):
    assert same_after_a_kill(f"a2c(hidden=(8,))+stream-x(agent='{agent}')", "CartPole-v1", tmp_path)
