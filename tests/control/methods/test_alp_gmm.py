"""alp-gmm: progress by hand, components in proportion to it, tasks where it is; and its place in a run."""

from types import SimpleNamespace

import pytest
import torch

from frugal.control.env import Ended
from frugal.control.methods.alp_gmm import LearningProgress
from frugal.core.errors import BadTask, Clash
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control.methods.resuming import same_after_a_kill
from tests.control.tinyenv import Tasked
from tests.control.tinyrun import launch, small


def teacher(every: int = 100, random: float = 0.0, low: tuple[float, ...] = (0.0,), high: tuple[float, ...] = (10.0,)):
    run = Run(1000)
    run.spaces = SimpleNamespace(task_low=low, task_high=high)
    return LearningProgress(every, random).begin(run)


def ended(task: list[list[float]], ret: list[float]) -> Ended:
    return Ended(torch.arange(len(ret)), torch.tensor(task), torch.tensor(ret).double(), torch.ones(len(ret)))


def test_progress_is_the_change_of_return_on_the_nearest_task():
    """Tasks 0, 2, .., 10 with return 1 are known; 4.9 is nearest to 4, 5.1 to 4.9, 0.5 to 0."""
    alp = teacher()
    alp(ended([[2.0 * i] for i in range(6)], [1.0] * 6))
    alp(ended([[4.9], [5.1], [0.5]], [3.0, -1.0, 1.5]))
    assert alp.seen[:, -1].tolist() == [0] * 6 + [2, 4, 0.5]
    assert alp.seen[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 0.49, 0.51, 0.05])


def test_there_is_no_progress_before_six_tasks_are_known():
    alp = teacher()
    alp(ended([[1.0]] * 7, [1.0, 5.0, 1.0, 5.0, 1.0, 5.0, 5.0]))
    assert alp.seen[:, -1].tolist() == [0] * 6 + [4], "on equal tasks the first of them is the nearest"


def test_tasks_are_equally_far_whatever_their_units():
    """Scaled, (0, 900) is 0.9 from (0, 0) and 1.0 from (10, 900); unscaled it would be 900 and 10."""
    alp = teacher(low=(0.0, 0.0), high=(10.0, 1000.0))
    alp(ended([[0.0, 0.0]] * 5 + [[10.0, 900.0]], [1.0] * 5 + [7.0]))
    alp(ended([[0.0, 900.0]], [2.0]))
    assert alp.seen[-1, -1] == 1


def test_components_are_drawn_by_their_mean_progress():
    alp = teacher(low=(0.0,), high=(1.0,))
    mean = torch.tensor([[0.2, 3.0], [0.8, 1.0], [0.5, 0.0]]).double()
    alp.mixture = mean, 1e-6 * torch.eye(2).double().expand(3, 2, 2)
    rng = torch.Generator().manual_seed(0)
    drawn = torch.tensor([alp.draw(rng)[0] for _ in range(4000)])
    near = [(drawn - x).abs() < 0.05 for x in (0.2, 0.8)]
    assert (near[0] | near[1]).all()
    assert near[0].double().mean().item() == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)


def test_without_progress_all_components_are_equal():
    alp = teacher(low=(0.0,), high=(1.0,))
    mean = torch.tensor([[0.2, 0.0], [0.8, 0.0]]).double()
    alp.mixture = mean, 1e-6 * torch.eye(2).double().expand(2, 2, 2)
    rng = torch.Generator().manual_seed(0)
    low = sum(alp.draw(rng)[0] < 0.5 for _ in range(2000))
    assert low / 2000 == pytest.approx(0.5, abs=4 * (0.25 / 2000) ** 0.5)


def test_the_share_of_even_tasks_is_left_to_the_environment():
    alp = teacher(random=0.2, low=(0.0,), high=(1.0,))
    alp.mixture = torch.tensor([[0.5, 1.0]]).double(), 1e-6 * torch.eye(2).double()[None]
    rng = torch.Generator().manual_seed(0)
    share = sum(alp.draw(rng) is None for _ in range(2000)) / 2000
    assert share == pytest.approx(0.2, abs=4 * (0.16 / 2000) ** 0.5)


def test_tasks_are_drawn_where_returns_change():
    """Below 7 nothing is ever learnt, above 9 all is known; between, returns go up and down."""
    alp = teacher(every=100)
    rng = torch.Generator().manual_seed(0)
    for i in range(200):
        task = 10 * torch.rand((), generator=rng).item()
        alp(ended([[task]], [float(i % 2) if 7 < task < 9 else float(task >= 9)]))
    drawn = torch.tensor([alp.draw(rng)[0] for _ in range(300)])
    assert ((drawn > 6.5) & (drawn < 9.5)).double().mean() > 0.8, "an even draw would have 0.3 of them there"
    assert ((drawn >= 0) & (drawn <= 10)).all()


def test_in_a_run_it_sees_every_episode_and_decides_on_the_next():
    run = launch(f"{small('control.ppo', envs=2)}+alp-gmm(every=8)", Tasked, 192)
    told = [env.told for env in run.env.envs]
    assert run.ledger.episodes > 30 and all(2 <= float(task[0]) <= 6 for own in told for task in own)


def test_an_environment_without_tasks_and_another_owner_of_them_are_refused():
    with pytest.raises(BadTask, match="it has no Box `task_space`"):
        launch(f"{small('control.ppo')}+alp-gmm", "CartPole-v1", 50)
    for other in ("snapshot-rl", "mbtl"):
        with pytest.raises(Clash, match="task of an episode"):
            recipe(f"control.ppo+alp-gmm+{other}")


def test_what_it_knows_survives_a_kill(tmp_path):
    assert same_after_a_kill(f"{small('control.ppo')}+alp-gmm(every=8)", Tasked, tmp_path)
