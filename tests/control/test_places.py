"""Each place of the loops does what its signature says: small parts of the kinds that methods are made of."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from frugal.control.laws import Deterministic
from frugal.control.networks import Flat
from frugal.registry import recipe
from tests.control.tinyenv import Counter, Tasked, patch_of
from tests.control.tinyrun import launch, small, weights


class Live:
    """Something that lives in a run: begins, sees, remembers."""

    def __init__(self):
        self.seen: list[Any] = []

    def begin(self, run):
        self.run = run
        return self


class Teacher(Live):
    """Asks for the longest task next, and notes what came of each."""

    def __call__(self, ended):
        if ended.ret is None:
            assert ended.task is None and ended.length.tolist() == [0, 0]
            return {"task": torch.full((len(ended.rows), 1), 3.0)}
        self.seen += list(zip(ended.task[:, 0].tolist(), ended.ret.tolist(), ended.length.tolist(), strict=True))
        return {"task": torch.full((len(ended.rows), 1), 5.0)}


@pytest.mark.parametrize("base", ("sac", "control.ppo"))
def test_start_reset_chooses_tasks_by_what_came_of_them(base):
    teacher = Teacher()
    made = recipe(small("dqn" if base == "sac" else base, envs=2)) + patch_of("teacher", add={"start.reset": teacher})
    launch(made, Tasked, 100)
    assert teacher.seen[:2] == [(3, 3, 3), (3, 3, 3)] and {task for task, _, _ in teacher.seen[2:]} == {5}
    assert all(task == ret == length for task, ret, length in teacher.seen) and len(teacher.seen) >= 18


class Walker(Counter):
    def get_state(self):
        return [self.episode, self.t]

    def set_state(self, state):
        self.episode, self.t = map(int, state)
        return self.look()


class Snapshots(Live):
    """Begins in the middle, for two steps at a time, during the first half of the budget."""

    def __call__(self, ended):
        if self.run.progress >= 0.5:
            return {}
        return {"state": [torch.tensor([77.0, 40.0]).numpy()] * len(ended.rows), "limit": [2] * len(ended.rows)}

    def observe(self, step):
        self.seen.append((step.obs[0].tolist(), bool(step.cut[0]), bool(step.term[0])))


def test_start_reset_may_begin_anywhere_and_cut_early():
    part = Snapshots()
    made = recipe(small("dqn")) + patch_of("snapshots", add={"start.reset": part})
    launch(made, lambda: Walker(length=50), 200)
    first = part.seen[:100]
    assert [obs for obs, _, _ in first] == [[77, 40], [77, 41]] * 50
    assert [cut for _, cut, _ in first] == [False, True] * 50 and not any(term for _, _, term in part.seen)
    after = [obs for obs, _, _ in part.seen[102:]]
    assert [77, 40] not in after and [0, 0] != after[0] and after[1][1] == after[0][1] + 1


@dataclass(frozen=True)
class Boxed:
    """Actions within `width` of 0.5, by the policy itself."""

    width: float
    inner: Any = None

    def parameters(self, spaces, features, rng):
        return self.inner.parameters(spaces, features, rng)

    def __call__(self, net, weights, z, obs):
        low = torch.full_like(obs[:, :1], 0.5 - self.width).clamp(-1, 1)
        high = torch.full_like(low, 0.5 + self.width).clamp(-1, 1)
        u = self.inner(net, weights, z, obs).mode
        return Deterministic(low + (u + 1) / 2 * (high - low))


@dataclass(frozen=True)
class InTheBox:
    width: float
    inner: Any = None

    def __call__(self, a, obs, role, rng):
        return self.inner(a, obs, role, rng).clamp(max(0.5 - self.width, -1), min(0.5 + self.width, 1))


class Sees(Live):
    """Watches what is done, and leaves the starts alone."""

    def __call__(self, ended):
        return {}

    def observe(self, step):
        self.seen.append(float(step.act[0, 0]))


def test_policy_and_exploration_can_be_wrapped():
    def boxed(width):
        wrap = {"learn.policy": Boxed(width), "act.explore": InTheBox(width)}
        return recipe(small("td3")) + patch_of("boxed", wrap=wrap)

    sees = Sees()
    launch(boxed(0.2) + patch_of("sees", add={"start.reset": sees}), "Pendulum-v1", 100)
    assert len(sees.seen) == 100 and all(0.3 - 1e-6 <= a <= 0.7 + 1e-6 for a in sees.seen[20:])
    wide = launch(boxed(1.5), "Pendulum-v1", 100)
    torch.testing.assert_close(weights(wide), weights(launch(small("td3"), "Pendulum-v1", 100)), rtol=0, atol=1e-4)


@dataclass(frozen=True)
class Optimism:
    """-eta q(s, pi(s)) on the critic's pass."""

    eta: float

    def __call__(self, net, batch):
        a = net.law(batch.state).mode.detach()
        return -self.eta * net.q(net.encode(batch.state), a).sum(0)


def test_terms_join_the_critic_s_loss():
    def run(eta):
        made = recipe(small("td3")) + patch_of("optimism", add={"learn.terms": Optimism(eta)})
        return launch(made, "Pendulum-v1", 100)

    plain = launch(small("td3"), "Pendulum-v1", 100)
    assert torch.equal(weights(run(0.0)), weights(plain))
    net, other = run(10.0).net, plain.net
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    a = other.law(z).mode
    assert (net.q(z, a) > other.q(z, a)).all()


class Rising(Live):
    """One update a sample, three once it has seen 60 samples; keeps the share of active units."""

    def __call__(self, before, after):
        return (after - before) * (3 if before >= 60 else 1)

    def learn(self, batch):
        weights_ = self.run.net.weights
        x = torch.cat([batch.state, batch.action], 1)
        first = torch.relu(x @ weights_["critic.0.0.weight"].T + weights_["critic.0.0.bias"])
        self.seen.append(float((first > 0).float().mean()))


def test_the_update_ratio_may_watch_the_critic():
    part = Rising()
    run = launch(recipe(small("sac")) + patch_of("rising", fill={"update.ratio": part}), "Pendulum-v1", 100)
    assert run.ledger.gradient_steps == 40 + 3 * 40 and len(part.seen) == 1 and 0 < part.seen[0] < 1


class LearnedReward(Live):
    """-|a|, whatever the environment says; learns from what it watches."""

    def observe(self, step):
        self.seen.append(step.reward)

    def __call__(self, batch):
        return -batch.act[..., 0].abs()


@pytest.mark.parametrize("base", ("sac", "control.ppo"))
def test_the_task_s_reward_can_be_replaced_and_evaluation_does_not_notice(base):
    part = LearnedReward()
    seen = {}

    def reporter(run, line):
        seen.setdefault(line["kind"], line)

    made = recipe(small(base)) + patch_of("learned", add={"credit.rewards.task": part})
    run = launch(made, "Pendulum-v1", 250, reporter=reporter)
    assert (
        list(seen["train"]["patches"]) == ["credit.rewards.task"]
        and -3 < seen["train"]["patches"]["credit.rewards.task"] < 0
    )
    assert len(part.seen) == run.ledger.samples == 250
    assert seen["evaluation"]["return"] == pytest.approx(launch(small(base), "Pendulum-v1", 250).curve[0]["return"])
    assert run.curve[-1]["return"] < -100, "the environment's own"


class TwoSets(Live):
    """The present weights and others, taken by turns."""

    def __call__(self, net, steps):
        if not steps:
            vector = net.all.vector.clone()
            net.all.views(vector)["policy.log_std"].fill_(-10.0)  # hardly any noise
            self.other = net.all.views(vector)
        return [net.weights, self.other]


class LooksIn(Live):
    """Adam, that keeps what it is given."""

    def __call__(self, net, loss, rows):
        self.seen.append(rows)
        half = rows.take(rows.set == 1)
        elsewhere = net.all.views(net.all.vector.clone())
        assert loss(elsewhere, half).item() == pytest.approx(loss(net.weights, half).item())
        return net.all.step(net.all.gradient(loss(net.weights, rows)), 1e-3)


def test_several_sets_of_weights_collect_and_a_step_gets_a_function_of_weights():
    behaviour, step = TwoSets(), LooksIn()
    fill = {"act.behaviour": behaviour, "update.step": step}
    made = recipe(small("control.reinforce", envs=2)) + patch_of("two", fill=fill)
    launch(made, lambda: Counter(length=40, continuous=True), 80)
    rows = step.seen[0]
    assert rows.set.tolist() == [0] * 40 + [1] * 40
    assert rows.act[rows.set == 0].std() > 0.5 and rows.act[rows.set == 1].std() < 1e-3


class LastTwo(Live):
    def __call__(self, window):
        self.seen = [*self.seen[-1:], window]
        return self.seen


def test_older_windows_can_be_kept():
    part = LastTwo()
    made = recipe(small("control.ppo")) + patch_of("kept", fill={"update.keep": part})
    run = launch(made, "CartPole-v1", 96)
    assert run.ledger.gradient_steps == 2 * (2 + 4 + 4), "2 epochs over 32, 64 and 64 rows of which a step takes 16"


class Keeps(Live):
    """Learns nothing, and keeps what it is given."""

    def __call__(self, net, loss, rows):
        self.seen.append(rows)
        return 0.0


@pytest.mark.parametrize("baseline", (False, True))
def test_the_budget_cuts_an_episode_that_a_round_waits_for(baseline):
    """One episode ends after 10 steps, one has none: its steps until then are learnt from, and it is not counted."""
    lengths, step = iter((1000, 10, 3)), Keeps()  # two that are trained in, one for evaluation
    made = recipe(small("control.reinforce", envs=2, gamma=1.0, baseline=baseline))
    run = launch(made + patch_of("kept", fill={"update.step": step}), lambda: Counter(next(lengths)), 80)
    assert (run.ledger.samples, run.ledger.gradient_steps, run.ledger.episodes) == (80, 1, 1)
    (rows,) = step.seen
    assert rows.cut.nonzero()[:, 0].tolist() == [69, 79] and not rows.term.any()
    with torch.no_grad():
        v = run.net.critic(run.net.weights, run.net.encode(torch.tensor([[0.0, 70.0], [0.0, 10.0]])))
    after = torch.cat([torch.arange(n, 0, -1) + v_end for n, v_end in zip((70, 10), v, strict=True)])
    torch.testing.assert_close(rows.target, after, rtol=1e-5, atol=0)
    assert bool((v != 0).all()) == baseline


class Post(Live):
    """Reads `twice` from info, and fits something of its own at the end of a round."""

    columns = ("twice",)

    def __call__(self, r, v, v_next, window):
        assert torch.equal(window.columns["twice"][..., 0], 2 * window.next[..., 1])
        return r - v, r

    def learn(self, window):
        self.seen.append(window.columns["twice"].shape)


@pytest.mark.parametrize("base", ("control.ppo",))
def test_an_advantage_may_read_columns_and_learn(base):
    part = Post()
    launch(recipe(small(base)) + patch_of("post", fill={"credit.advantage": part}), lambda: Counter(length=5), 64)
    assert part.seen == [(1, 32, 1)] * 2


def test_one_step_rounds_can_be_learnt_from_at_once():
    """What streaming methods need: a round of one step, whose gradient is one of log pi and one of v."""
    step = LooksInOne()
    made = recipe("a2c(hidden=(8,), envs=1, steps=1, lr=1e-3)") + patch_of("stream", fill={"update.step": step})
    launch(made, "CartPole-v1", 60)
    assert len(step.seen) == 60 and all(len(rows) == 1 for rows in step.seen)
    assert any(bool(rows.term[0]) for rows in step.seen)


class LooksInOne(Live):
    def __call__(self, net, loss, rows):
        self.seen.append(rows)
        out = net.law(rows.obs).logp(rows.act).sum()
        gradient = net.all.gradient(out)
        assert gradient.abs().sum() > 0
        net.all.vector += 1e-3 * float(rows.A) * gradient
        return float(gradient.norm())


def test_flat_weights_are_views_of_one_vector():
    flat = Flat({"a": torch.ones(2, 3), "b": torch.zeros(4)})
    assert flat.vector.shape == (10,)
    norm = flat.step(flat.gradient((flat.weights["a"] * 2).sum()), lr=0.5)
    assert norm == pytest.approx(24**0.5)
    torch.testing.assert_close(flat.weights["a"].detach(), torch.full((2, 3), 0.5))
    assert flat.weights["b"].tolist() == [0] * 4
