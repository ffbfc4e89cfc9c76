"""Mistakes that the field keeps making, each driven through the public loop. Numbers are those of our own list."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from frugal.control import loop_off
from frugal.control.env import environments
from frugal.control.evaluate import play
from frugal.control.laws import TanhGaussian
from frugal.control.net import Net
from frugal.control.parts import EpsilonGreedy, SoftActor
from frugal.core.errors import BadRecipe, RunFailed
from frugal.core.run import Run
from frugal.registry import recipe, usual_task
from tests.control.tinyenv import Chain, Counter, Noise, Pictures, act, patch_of
from tests.control.tinyrun import SMALL, launch, small, weights

BASES = pytest.mark.parametrize("base", sorted(SMALL))


def test_every_base_is_here():
    from frugal.registry import bases

    control = {name for name, make in bases().items() if make().domain.name == "control"}
    assert control == set(SMALL) and len(control) == 6


# -- 1, 3: ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,samples",
    [
        ("dqn(hidden=(), gamma=0.8, lr=0.03, warmup=10, track=5, batch=16, ratio=1.0)", 600),
        ("td3(gamma=0.8, hidden=(16,), lr=0.01, warmup=10, batch=16, tau=0.1)", 600),
        ("dqn(hidden=(), gamma=0.8, n=3, lr=0.03, warmup=10, track=5, batch=16, ratio=1.0)", 600),
        ("a2c(gamma=0.8, hidden=(16,), lr=0.01)", 2000),
        ("control.ppo(gamma=0.8, hidden=(16,), lr=0.01, steps=64)", 1500),
    ],
)
def test_pitfall_1_truncation_is_not_termination(text, samples):
    """One state, reward 1, cut after one step: the value is 1 / (1 - gamma) = 5, and 1 if a cut were an end."""
    run = launch(text, lambda: Chain(discrete=text.startswith("dqn")), samples)
    net, obs = run.net, torch.ones(1, 1)
    with torch.no_grad():
        z = net.encode(obs)
        v = net.q(z, net.law(obs).mode) if "critic" in net.groups else net.critic(net.weights, z)
    assert v.flatten().tolist() == pytest.approx([5.0] * v.numel(), abs=0.25)


@dataclass(frozen=True)
class Watch:
    """An advantage that looks at what it is given."""

    seen: Any = None

    def __call__(self, r, v, v_next, window):
        self.seen.append((v, v_next, window))
        return torch.zeros_like(r), torch.zeros_like(r)

    def __hash__(self):
        return 1


@dataclass(frozen=True)
class SaysStep:
    """v = the step that an observation of `Counter` is of."""

    def parameters(self, spaces, features, rng):
        return {}

    def __call__(self, weights, z):
        return z[:, 1]


def test_pitfall_3_a_cut_is_valued_at_its_true_successor():
    seen = []
    spy = patch_of("spy", fill={"credit.advantage": Watch(seen), "learn.critic": SaysStep()})
    launch(recipe("control.ppo(steps=32)") + spy, lambda: Counter(length=5), samples=32)
    v, v_next, window = seen[0]
    assert window.cut.sum() == 6
    assert torch.equal(v_next, v + 1) and (v_next[window.cut] == 5).all(), "of the reset observation it would be 0"


# -- 6: squashed actions --------------------------------------------------------------------------------------


def test_pitfall_6_the_policy_s_density_is_that_of_its_actions():
    """Of a million draws of a policy with two dimensions, the share in a cell is the density times its area."""
    law = TanhGaussian(torch.tensor([[0.3, -0.5]]).expand(1_000_000, 2), torch.tensor([-0.7, 0.1]).expand(1_000_000, 2))
    a, logp = law.sample(torch.Generator().manual_seed(0))
    assert logp.shape == (1_000_000,), "summed over dimensions"
    for middle in ((0.3, -0.5), (0.6, 0.4), (-0.2, -0.9)):
        cell = ((a - torch.tensor(middle)).abs() < 0.025).all(1)
        n = int(cell.sum())
        assert float(logp[cell].exp().mean()) * 0.05**2 * 1e6 == pytest.approx(n, abs=5 * n**0.5)


def test_pitfall_6_saturated_actions_have_finite_densities_and_gradients():
    mean = torch.tensor([[20.0, -20.0]], requires_grad=True)
    _, logp = TanhGaussian(mean, torch.zeros(1, 2)).sample(torch.Generator().manual_seed(0))
    logp.sum().backward()
    assert torch.isfinite(logp).all() and mean.grad.tolist() == [pytest.approx([2.0, -2.0], abs=1e-5)]


# -- 7, 8: what is stored, what is normalised -----------------------------------------------------------------


def test_pitfall_7_the_target_entropy_is_minus_the_number_of_actions():
    """The temperature rises while the entropy is below -A, and falls above it."""
    for logp, rises in ((2.5, True), (1.5, False)):  # A = 2: entropy -2.5 and -1.5
        law = SimpleNamespace(sample=lambda rng, x=logp: (torch.zeros(4, 2), torch.full((4,), x)))
        log_alpha = torch.zeros(1, requires_grad=True)
        net = SimpleNamespace(
            law=lambda obs, z, law=law: law,
            weights={"actor.log_alpha": log_alpha},
            spaces=SimpleNamespace(actions=2),
            q=lambda z, a: torch.zeros(2, 4),
        )
        SoftActor()(net, SimpleNamespace(state=None, z=None, rng=None)).mean().backward()
        assert (float(log_alpha.grad) < 0) == rises and abs(float(log_alpha.grad)) == pytest.approx(0.5)


@pytest.mark.parametrize("base", ("sac", "control.ppo"))
def test_pitfall_8_only_collected_steps_move_the_statistics(base, tmp_path):
    from frugal.control.policy import load

    text = small(base, normalise=True)
    run = launch(text, Noise, 192, evaluations=4, eval_episodes=3, out=tmp_path / "a")
    running = run.net.encoder
    assert running.count == 192 == run.ledger.samples < run.ledger.evaluation.samples + 192
    seen = []
    spy = patch_of("spy", add={"credit.rewards": Look(seen)})
    again = launch(recipe(text) + spy, Noise, 192)
    assert torch.equal(again.net.encoder.mean, running.mean)
    loaded = load(tmp_path / "a" / "model")
    assert torch.equal(loaded.net.encoder.mean, running.mean) and torch.equal(loaded.net.encoder.square, running.square)
    x = torch.randn(4, 3)
    spread = (running.square / running.count + 1e-8).sqrt()
    torch.testing.assert_close(running({}, x), ((x - running.mean) / spread).clamp(-10, 10).float())


@dataclass(frozen=True)
class Look:
    """A reward of nothing, that sees every batch."""

    seen: Any = None

    def __call__(self, batch):
        self.seen.append(batch)
        return torch.zeros_like(batch.reward)

    def __hash__(self):
        return 1


def test_pitfall_8_the_moments_are_those_of_everything_seen():
    run = launch(small("sac", normalise=True), Noise, 150)
    env = environments(Noise, 1, 0)
    env.begin(torch.arange(1))
    observed = [env.obs]
    while len(observed) < 150:
        step = env.step(act(env))
        observed.append(env.begin(torch.arange(1)) if step.ended.any() else step.next)
    x = torch.cat(observed).double()  # the environment's noise does not depend on actions
    torch.testing.assert_close(run.net.encoder.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run.net.encoder.square / 150, x.var(0, correction=0), rtol=1e-9, atol=1e-12)


# -- 9, 10: evaluation ----------------------------------------------------------------------------------------


@BASES
def test_pitfall_9_training_is_the_same_with_and_without_evaluation(base):
    text = small(base, normalise=True)
    often, seldom = (launch(text, usual_task(base), 300, evaluations=n, eval_episodes=3) for n in (3, 1))
    assert torch.equal(weights(often), weights(seldom))
    assert often.ledger.samples == seldom.ledger.samples and often.ledger.evaluation.samples > 0
    trained = [[line for line in run.curve if line["kind"] == "train"] for run in (often, seldom)]
    assert trained[0] == trained[1]


class Uneven(Counter):
    """Half of the episodes, by their seed, are short and score 1; the others are long and score 30."""

    def reset(self, *, seed=None, options=None):
        self.length = 1 if seed % 2 else 30
        return super().reset(seed=seed)


def test_pitfall_10_long_episodes_count_as_often_as_short_ones():
    env = environments(Uneven, 4, 3)
    returns, lengths = play(env, lambda obs: act(env), 18)
    wanted = [1.0 if env._seed_of(row, k) % 2 else 30.0 for row in range(4) for k in range(5 if row < 2 else 4)]
    assert returns.tolist() == wanted == lengths.tolist() and 1.0 in wanted and 30.0 in wanted
    assert torch.equal(play(env, lambda obs: act(env), 18)[0], returns), "every evaluation sees the same episodes"


# -- 11, 12: targets and ratios -------------------------------------------------------------------------------


@pytest.mark.parametrize("base,track", [("sac", 1), ("td3", 3), ("dqn", 4)])
def test_pitfall_11_targets_follow_at_their_interval_and_in_the_right_direction(base, track, monkeypatch):
    """target <- (1 - tau) target + tau now, after critic and actor, in every `track`-th update."""
    moments = []
    original = loop_off.learn

    def learn(net, *rest):
        before = {name: vector.clone() for name, vector in net.tracked.items()}
        original(net, *rest)
        moments.append(
            (
                before,
                {n: g.vector.clone() for n, g in net.groups.items()},
                {n: v.clone() for n, v in net.tracked.items()},
            )
        )

    monkeypatch.setattr(loop_off, "learn", learn)
    ratio = {"ratio": 1.0, "every": 1} if base == "dqn" else {}
    launch(small(base, tau=0.25, track=track, **ratio), usual_task(base), 60)
    assert len(moments) == 40 and set(moments[0][0]) == ({"critic", "actor"} if base == "td3" else {"critic"})
    for k, (before, now, after) in enumerate(moments):
        for name in before:
            wanted = 0.75 * before[name] + 0.25 * now[name] if (k + 1) % track == 0 else before[name]
            torch.testing.assert_close(after[name], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ratio,every,updates", [(3.0, 1, 540), (0.5, 4, 90), (1.0, 1, 180), (0.25, 2, 45)])
def test_pitfall_12_updates_are_as_many_as_asked_each_on_a_fresh_batch(ratio, every, updates):
    seen = []
    spy = patch_of("spy", add={"credit.rewards": Look(seen)})
    made = recipe(small("sac", ratio=ratio, every=every)) + spy
    run = launch(made, "Pendulum-v1", 200)
    assert run.ledger.gradient_steps == updates == len(seen)
    assert len({tuple(batch.rows.tolist()) for batch in seen}) == updates
    assert all(int(batch.rows.max()) < 200 for batch in seen)


def test_pitfall_12_a_schedule_follows_samples_and_not_updates(monkeypatch):
    rates = []
    original = loop_off.learn

    def learn(net, p, batch, s, *rest):
        rates.append(s.lr)
        original(net, p, batch, s, *rest)

    monkeypatch.setattr(loop_off, "learn", learn)
    text = small("sac", ratio=4.0).replace("warmup=20", "warmup=20, lr=linear(1e-3, 0.0)")
    launch(text, "Pendulum-v1", 200)
    assert sorted(set(rates), reverse=True) == pytest.approx([1e-3, 5e-4]) and len(rates) == 4 * 180


# -- 14, 17: seeds, and what moves ----------------------------------------------------------------------------


@BASES
def test_pitfall_14_a_seed_is_a_run(base):
    runs = [launch(small(base, envs=2), usual_task(base), seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(weights(runs[0]), weights(runs[1])) and not torch.equal(weights(runs[0]), weights(runs[2]))


@BASES
def test_pitfall_17_every_weight_moves_and_what_is_frozen_does_not(base):
    run = launch(small(base), usual_task(base), 300)
    start = Net(recipe(small(base)), run.spaces, Run(1))
    for name, weight in run.net.weights.items():
        assert not torch.equal(weight, start.weights[name]), name
    assert len(run.net.weights) >= 4
    still = launch(small(base, lr=0.0), usual_task(base), 300)
    assert torch.equal(weights(still), torch.cat([group.vector for group in start.groups.values()]))


def test_pitfall_17_the_actor_does_not_move_the_critic(monkeypatch):
    run = launch(small("sac"), "Pendulum-v1", 60)
    net = run.net
    batch = SimpleNamespace(state=torch.randn(8, 3), z=torch.randn(8, 3), rng=torch.Generator().manual_seed(0))
    critic = net.groups["critic"].vector.clone()
    gradient = net.groups["actor"].gradient(SoftActor()(net, batch).mean())
    net.groups["actor"].step(gradient, 1e-2)
    assert torch.equal(net.groups["critic"].vector, critic) and gradient.abs().min() >= 0
    assert all(w.grad is None for w in net.weights.values())


# -- exploration, pictures, and numbers that are none ---------------------------------------------------------


def test_epsilon_falls_over_its_share_of_the_budget():
    part = EpsilonGreedy(1.0, 0.1, 0.5)
    assert [part.epsilon(x) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    run = SimpleNamespace(spaces=SimpleNamespace(choices=(4,)), progress=0.25)
    explore, rng = part.begin(run), torch.Generator().manual_seed(0)
    a = torch.full((40_000, 1), 2.0)
    share = explore(a, a, "collect", rng).long().flatten().bincount(minlength=4) / 40_000
    torch.testing.assert_close(share, torch.tensor([0.1375, 0.1375, 0.5875, 0.1375]), atol=0.01, rtol=0)
    assert torch.equal(explore(a, a, "target", rng), a)


@pytest.mark.parametrize("base", ("dqn", "sac", "control.ppo"))
@pytest.mark.parametrize("side", (16, 40))
def test_pictures_train(base, side):
    make = lambda: Pictures(side, continuous=base == "sac")  # noqa: E731
    run = launch(small(base), make, 64)
    assert run.ledger.gradient_steps > 0 and run.net.weights["encoder.0.weight"].dim() == 4
    assert torch.isfinite(weights(run)).all()


@pytest.mark.parametrize("base,task", [("dqn", "Pendulum-v1"), ("sac", "CartPole-v1"), ("td3", "CartPole-v1")])
def test_actions_that_a_recipe_cannot_choose_are_refused(base, task):
    with pytest.raises(ValueError, match=f"{base} takes .* and {task} has") as error:
        launch(base, task)
    assert "control.ppo" in str(error.value)


@dataclass(frozen=True)
class NoNumber:
    def __call__(self, batch):
        return torch.full_like(batch.reward, float("nan"))


@pytest.mark.parametrize("base", ("sac", "a2c"))
def test_what_says_no_number_is_named_and_learnt_from_by_nobody(base, tmp_path):
    broken = patch_of("broken", add={"credit.rewards": NoNumber()})
    seen = {}

    def reporter(run, line):
        seen["weights"] = weights(run).clone()

    with pytest.raises(RunFailed, match="NaN or infinite for 3"):
        launch(recipe(small(base)) + broken, usual_task(base), out=tmp_path / "a", reporter=reporter)
    assert (tmp_path / "a" / "broken").is_dir() and torch.isfinite(seen["weights"]).all()


def test_a_base_of_the_other_loop_is_refused_by_name():
    with pytest.raises(BadRecipe, match=r"spy changes update\.ratio, which control\.ppo with its on-policy loop"):
        recipe("control.ppo") + patch_of("spy", fill={"update.ratio": 1})
    with pytest.raises(BadRecipe, match="spy changes capacity"):
        recipe("control.ppo") + patch_of("spy", set={"capacity": 1})


def test_double_q_learning_takes_the_target_s_value_of_the_online_choice():
    """By hand: online values (1, 2), target values (9, 4): double says 4, plain says 9."""
    for double, wanted in ((True, 4.0), (False, 9.0)):
        made = recipe(f"dqn(hidden=(), double={double})")
        run = Run(1)
        env = environments(lambda: Chain(discrete=True), 1, 0)
        run.spaces = env.spaces
        net = Net(made, env.spaces, run)
        with torch.no_grad():
            for weights_, values in ((net.weights, (1.0, 2.0)), (net.target, (9.0, 4.0))):
                weights_["critic.0.weight"].zero_()
                weights_["critic.0.bias"].copy_(torch.tensor(values))
        obs = torch.ones(1, 1)
        a, _ = net.law_after(obs).sample(torch.Generator())
        assert float(net.q(net.encode(obs, net.target), a, net.target)) == wanted


def test_duelling_values_by_hand():
    part = replace(recipe("dqn(duelling=True)").parts["learn.critic"], hidden=())
    weights_ = {"critic.0.weight": torch.zeros(4, 1), "critic.0.bias": torch.tensor([10.0, 1.0, 2.0, 6.0])}
    assert part.all(weights_, torch.ones(1, 1)).tolist() == [[[8.0, 9.0, 13.0]]]


def test_rewards_are_read_at_drawing_time_and_the_task_s_own_can_be_replaced():
    seen = []

    @dataclass(frozen=True)
    class Minus:
        def __call__(self, batch):
            return -batch.reward

    made = recipe(small("sac")) + patch_of("minus", add={"credit.rewards.task": Minus()})
    assert str(made.parts["credit.rewards.task"]) == str(Minus())
    run = launch(made + patch_of("spy", add={"credit.rewards": Look(seen)}), "Pendulum-v1", 60)
    plain = launch(small("sac"), "Pendulum-v1", 60)
    assert not torch.equal(weights(run), weights(plain)) and np.isfinite(weights(run)).all()
    assert all((batch.reward <= 0).all() for batch in seen)


def test_every_pitfall_of_control_has_a_test():
    """15 and 18 belong to offline data and to planning."""
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    found = [n for f in files for n in re.findall(r"def test_pitfall_(\d+)_", f.read_text())]
    assert {int(n) for n in found} == {*range(1, 15), 16, 17} and len(found) >= 30
