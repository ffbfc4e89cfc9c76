"""mbtl: its acquisition by hand, the portfolio that acts, and sources that follow one another from the start."""

import pytest
import torch

from frugal import maths
from frugal.control import load
from frugal.control.methods.mbtl import LENGTHS, NOISE, SCALES, FromScratch, acquisition
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.registry import recipe
from tests.control.methods.resuming import same_after_a_kill
from tests.control.tinyenv import Tasked, patch_of
from tests.control.tinyrun import launch, small

TASK = "frugal/CartPole-v0(length=(0.5, 2.5))"


def column(*x: float) -> torch.Tensor:
    return torch.tensor(x)[:, None]


@pytest.mark.parametrize("slope,gains", [(0.5, (0.039851, 0.181491)), (0.0, (0.039851, 0.112982))])
def test_acquisition_by_hand(slope, gains):
    """One source, x = 0.5 with J = 1. The likeliest scale is 1, all lengths are as likely, 1 is the longest:
    mu = 1 / 1.01 and exp(-1/8) / 1.01, sigma^2 = 1 - 1 / 1.01 and 1 - exp(-1/4) / 1.01, mu + sigma / 2 = 1.039851
    and 1.112982. With slope 0.5 V is 1 and 0.75: at 1.0 a gain of 0.362982 there and none at 0.5; the mean is half.
    """
    found = acquisition(column(0.5), torch.ones(1), column(0.5, 1.0), slope)
    assert found.tolist() == pytest.approx(gains, abs=1e-5)


def test_with_a_steep_slope_only_the_task_itself_gains():
    x, at = column(0.2, 0.9), column(0.2, 0.5, 0.9)
    gain = acquisition(x, torch.tensor([1.0, 0.2]), at, 100.0)
    pairs = [(c, length) for c in SCALES for length in LENGTHS]
    best = max(pairs, key=lambda p: maths.gp_evidence(x, torch.tensor([1.0, 0.2]), *p, NOISE))
    mu, sigma = maths.gp_posterior(x, torch.tensor([1.0, 0.2]), at, *best, NOISE)
    reached = torch.tensor([1.0, 0.0, 0.2])
    assert gain.tolist() == pytest.approx(((mu + sigma / 3 - reached).clamp(min=0) / 3).tolist(), abs=1e-6)


class Watch:
    """A reward of nothing, that sees every step and the weights that came before it."""

    def begin(self, run):
        self.run, self.tasks, self.weights = run, [], []
        return self

    def __call__(self, batch):
        return torch.zeros_like(batch.reward)

    def observe(self, step):
        self.tasks.append(step.obs[0, -1].item())
        self.weights.append(self.run.net.all.vector.clone())


def watched(text: str, samples: int, task: str = TASK):
    watch = Watch()
    run = launch(recipe(text) + patch_of("watch", add={"credit.rewards": watch}), task, samples)
    return watch, run


def test_sources_follow_one_another_each_from_the_first_weights():
    watch, run = watched(f"{small('control.ppo')}+mbtl(sources=4)", 512)
    quarters = [watch.tasks[i : i + 128] for i in range(0, 512, 128)]
    assert all(len(set(quarter)) == 1 for quarter in quarters) and len(set(watch.tasks)) == 4
    assert watch.tasks[0] == 0.5, "the middle of the range comes first"
    begins = [watch.weights[i] for i in range(0, 512, 128)]
    assert all(torch.equal(w, begins[0]) for w in begins)
    assert not any(torch.equal(watch.weights[i - 1], begins[0]) for i in (128, 256, 384, 512))
    deploy = run.net.deploy
    assert len(deploy.J) == 3 and deploy.x[:, 0].tolist() == [quarter[0] for quarter in quarters]
    assert float(run.net.all.steps) == 16, "steps of Adam, those of the last source alone"
    assert not any(torch.equal(a, b) for i, a in enumerate(deploy.weights) for b in deploy.weights[:i])


class Memory:
    """An optimiser that counts its steps."""

    def __init__(self):
        self.steps = torch.zeros(())

    def __call__(self, net, loss, rows):
        self.steps += 1
        return 0.0

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps.copy_(state["steps"])


def test_the_optimiser_s_own_memory_begins_again_too():
    run = launch("a2c(hidden=(4,))+mbtl(sources=1)", TASK, 60)
    memory = Memory()
    first = run.net.all.vector.clone()
    live = FromScratch(2, memory).begin(run)
    run.net.all.vector += 1.0
    live(run.net, None, None)
    assert memory.steps == 1 and len(run.net.deploy.J) == 0
    live.learn(None)  # the budget is spent, so the first source is done
    assert memory.steps == 0 and torch.equal(run.net.all.vector, first)
    assert torch.equal(run.net.deploy.weights[0], first + 1.0)


def test_the_policy_acts_that_should_be_best_and_sees_its_own_task():
    """Two constant policies, with J = 100 at x = 0.5 and 80 at x = 1; slope 0.5 of a span of 100 is 50: they are equal
    at x = 0.95. The worst episode had return 0.
    """
    _, run = watched("control.ppo(hidden=(), steps=64, batch=16, epochs=1)+mbtl(sources=3)", 192)
    deploy, net = run.net.deploy, run.net
    names = list(net.all.shapes)
    weights = {name: torch.zeros(shape) for name, shape in net.all.shapes.items()}

    def always(action):
        weights["policy.0.bias"] = torch.eye(2)[action]
        return torch.cat([weights[name].reshape(-1) for name in names])

    deploy.x, deploy.J, deploy.worst, deploy.recent = column(0.5, 1.0, 0.0), torch.tensor([100.0, 80.0]), 0.0, []
    deploy.weights = torch.stack([always(0), always(1)])
    obs = torch.zeros(4, 5)
    obs[:, -1] = torch.tensor([0.0, 0.9, 0.96, 1.0])
    assert deploy(net, obs)[:, 0].tolist() == [0, 0, 1, 1]

    weights["policy.0.bias"] = torch.tensor([0.0, -0.7])
    weights["policy.0.weight"] = torch.zeros(2, 5)
    weights["policy.0.weight"][1, -1] = 1.0  # action 1 where the task that it sees is above 0.7
    sees = torch.cat([weights[name].reshape(-1) for name in names])
    deploy.weights = torch.stack([sees, sees])
    assert deploy(net, obs)[:, 0].tolist() == [0, 0, 1, 1], "0.5 or 1, whatever the task is"


def test_a_saved_policy_is_the_whole_portfolio(tmp_path):
    run = launch(f"{small('control.ppo')}+mbtl(sources=3)", TASK, 192, out=tmp_path / "a")
    saved = load(tmp_path / "a" / "model")
    obs = torch.rand(200, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    obs[:, -1] = obs[:, -1].abs()
    with torch.no_grad():
        wanted = run.net.deploy(run.net, obs)
    assert torch.equal(saved.act(obs), wanted) and len(saved.net.deploy.weights) == 2


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadTask, match="it has no Box `task_space`"):
        launch(f"{small('control.ppo')}+mbtl", "CartPole-v1", 40)
    with pytest.raises(BadTask, match="and there it is not"):
        launch(f"{small('control.ppo')}+mbtl", Tasked, 40)
    with pytest.raises(BadRecipe, match="dqn with its off-policy loop does not have"):
        recipe("dqn+mbtl")
    with pytest.raises(Clash, match="mbtl makes it dead"):
        recipe("control.ppo(normalise=True)+mbtl")
    with pytest.raises(BadRecipe, match="at least one source"):
        recipe("control.ppo+mbtl(sources=0)")


def test_the_portfolio_survives_a_kill(tmp_path):
    assert same_after_a_kill(f"{small('control.ppo')}+mbtl(sources=4)", TASK, tmp_path, samples=512, at=8)
