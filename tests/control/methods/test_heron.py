"""HERON: the tree by hand and by if and else, scale, the reward that comes of it, both loops."""

import math
import random
from types import SimpleNamespace

import pytest
import torch

from frugal.control.methods.heron import FromRanking, LiveReward, heron, preferred
from frugal.control.spaces import Spaces
from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control import test_resume as resuming
from tests.control.tinyenv import Counter, Pictures, patch_of
from tests.control.tinyrun import launch, small, weights


def label(a: list[float], b: list[float], margins: list[float]) -> float:
    return preferred(*map(torch.tensor, (a, b, margins))).item()


def test_tree_by_hand():
    assert label([1.0, 0.0], [0.0, 9.0], [0.0, 0.0]) == 1
    assert label([1.0, 0.0], [0.0, 9.0], [2.0, 0.0]) == -1, "the first level ties"
    assert label([1.0, 0.0], [0.0, 9.0], [2.0, 9.0]) == 0, "nobody is ahead by more than the margin"
    assert label([1.0, 2.0], [1.0, 2.0], [0.0, 0.0]) == 0


def test_tree_equals_the_levels_written_out_is_antisymmetric_and_free_of_scale():
    def written_out(a, b, margins):
        for x, y, margin in zip(a, b, margins, strict=True):
            if x > y + margin:
                return 1
            if y > x + margin:
                return -1
        return 0

    draw, seen = random.Random(0), set()
    for _ in range(300):
        a, b = ([draw.randrange(8) / 4 for _ in range(3)] for _ in range(2))
        margins = [draw.choice([0.0, 0.5, 1.0]) for _ in range(3)]
        wanted = written_out(a, b, margins)
        assert label(a, b, margins) == wanted == -label(b, a, margins)
        scaled = [[8 * x, y, z / 4] for x, y, z in (a, b, margins)]  # exact in binary
        assert label(*scaled) == wanted
        seen.add(wanted)
    assert seen == {-1, 0, 1}


def live(factors=("far", "cheap"), margins=(0.5, 0.1), scale: float = 1.0) -> LiveReward:
    """A reward that was fitted 40 times to 64 steps each with factors of their own, `far` times `scale`."""
    run = Run(10_000)
    run.spaces = Spaces((3,), False, low=(-1.0,), high=(1.0,))
    reward = FromRanking(factors, margins, every=64).begin(run)
    rng = torch.Generator().manual_seed(0)
    for _ in range(40):
        reward.observe(steps(64, rng, scale))
    return reward


def steps(n: int, rng: torch.Generator, scale: float = 1.0) -> SimpleNamespace:
    """The second factor is on another scale, and an observation tells neither."""
    far, cheap = torch.randn(n, 1, generator=rng) * scale, 100 * torch.randn(n, 1, generator=rng)
    obs, valid = torch.randn(n, 3, generator=rng), torch.ones(n) > 0
    return SimpleNamespace(obs=obs, reward=torch.zeros(n), columns={"far": far, "cheap": cheap}, valid=valid)


@torch.no_grad()
def ranks_right(reward: LiveReward, scale: float = 1.0) -> float:
    """Share of the decided pairs of 200 new steps that R ranks as the tree does."""
    new = steps(200, torch.Generator().manual_seed(1), scale)
    x = reward.part.inputs(new)
    R, z = reward.reward(x), x[:, -2:]
    y = preferred(z[:, None], z, torch.tensor(reward.part.margins) * torch.tensor([scale, 100.0]))
    return float(((R[:, None] - R).sign() == y)[y != 0].float().mean())


def test_the_reward_ranks_as_the_tree_does_whatever_the_scales():
    one, other = live(), live(scale=1024.0)
    assert ranks_right(one) > 0.9
    x, y = (
        reward.part.inputs(steps(50, torch.Generator().manual_seed(1), s)) for reward, s in ((one, 1), (other, 1024))
    )
    with torch.no_grad():
        torch.testing.assert_close(one.reward(x), other.reward(y), rtol=1e-3, atol=1e-3)


def test_before_the_first_fit_every_reward_is_zero():
    run, rng = Run(100), torch.Generator().manual_seed(0)
    run.spaces = Spaces((3,), False, low=(-1.0,), high=(1.0,))
    reward, new = FromRanking(("reward",), (1.0,), every=3).begin(run), steps(2, rng)
    rows = SimpleNamespace(obs=new.obs[:, None], reward=new.reward[:, None], columns={})
    reward.observe(new)
    assert reward(rows).tolist() == [[0.0], [0.0]]
    reward.observe(new)
    assert reward(rows).all()


def test_one_factor_gives_its_own_order_and_a_minus_the_opposite():
    new = steps(200, torch.Generator().manual_seed(1))
    for sign, factors in ((1, ("far",)), (-1, ("-far",))):
        reward = live(factors, (0.0,))
        with torch.no_grad():
            R = reward.reward(reward.part.inputs(new))
        far = new.columns["far"][:, 0]
        assert sign * torch.corrcoef(torch.stack([R, far]))[0, 1] > 0.9


def test_fit_descends_the_loss_of_bradley_and_terry():
    """R = 0 everywhere at the start costs log 2 a pair; 40 fits later far less."""
    reward = live()
    new = steps(200, torch.Generator().manual_seed(1))
    x = reward.part.inputs(new)
    with torch.no_grad():
        R, z = reward.reward(x), x[:, -2:]
    first = preferred(z[:, None], z, torch.tensor([0.5, 10.0])) > 0
    loss = torch.nn.functional.softplus(-(R[:, None] - R))[first].mean()
    assert loss < 0.5 * math.log(2)


def test_factors_are_read_from_info_and_from_the_reward():
    part = FromRanking(("-twice", "reward"), (0.0, 0.0), 400)
    assert part.columns == ("twice",)
    step = SimpleNamespace(
        obs=torch.zeros(2, 3), reward=torch.tensor([5.0, 6.0]), columns={"twice": torch.tensor([[1.0], [2.0]])}
    )
    assert part.inputs(step).tolist() == [[0, 0, 0, -1, 5], [0, 0, 0, -2, 6]]


@pytest.mark.parametrize("base", ("sac", "control.ppo", "control.reinforce"))
def test_it_stands_for_the_reward_in_both_loops(base):
    seen = []

    def reporter(run, line):
        seen.append(line)

    text = small(base) + "+heron(factors=('-twice', 'reward'), margins=(0.5, 0.5), every=40)"
    launch(text, lambda: Counter(length=20, continuous=True), 200, reporter=reporter)
    said = [line["patches"]["credit.rewards.task"] for line in seen if line["kind"] == "train"]
    assert said and all(abs(x - 1) > 1e-3 for x in said)
    assert seen[0]["return"] == 20, "evaluation sees the environment's own"


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setitem(resuming.RUNS, "heron", (small("sac") + "+heron(every=50)", "Pendulum-v1"))
    resuming.test_a_run_killed_at_any_line_of_its_curve_resumes_to_the_same_bits("heron", tmp_path)


def test_what_it_cannot_do_is_said():
    with pytest.raises(BadTask, match=r"'speed'.*does not say"):
        launch(small("sac") + "+heron(factors=('speed',))", "Pendulum-v1", 100)
    with pytest.raises(BadTask, match="pictures"):
        launch("control.ppo(steps=16)+heron", lambda: Pictures(), 100)
    with pytest.raises(BadRecipe, match="one margin >= 0 for each"):
        heron(factors=("reward", "reward"))
    other = patch_of("other", add={"credit.rewards.task": FromRanking(("reward",), (0.0,), 1)})
    for one, two in ((heron(), other), (other, heron())):
        with pytest.raises(Clash, match=r"credit\.rewards\.task"):
            recipe("sac") + one + two
    assert torch.isfinite(weights(launch(small("sac") + "+heron", "Pendulum-v1", 100))).all()
