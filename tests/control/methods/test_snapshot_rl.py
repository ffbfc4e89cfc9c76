"""snapshot-rl: classes by hand, how they are drawn, where episodes begin and end, and whose states they are."""

import gymnasium
import pytest
import torch
from scipy.stats import chisquare

from frugal.control.methods.snapshot_rl import LiveSnapshots, Snapshots, classes
from frugal.core.errors import BadRecipe, BadRun, BadTask
from frugal.core.run import Run
from frugal.registry import recipe
from tests.control.methods.resuming import same_after_a_kill
from tests.control.tinyenv import Counter, Tasked, patch_of
from tests.control.tinyrun import launch, small


class Walker(Counter):
    """Can begin at any step of any episode."""

    def get_state(self):
        return [self.episode, self.t]

    def set_state(self, state):
        self.episode, self.t = map(int, state)
        return self.look()


class TaskedWalker(Tasked, Walker):
    def get_state(self):
        return [self.length, self.t]

    def set_state(self, state):
        assert state[0] == self.length, "a state of another task"
        self.t = int(state[1])
        return self.look()


class Looks:
    """Keeps every step."""

    def __init__(self):
        self.steps = []

    def begin(self, run):
        self.run = run
        return self

    def __call__(self, net, obs):
        return net.law(obs).mode

    def observe(self, step):
        self.steps.append(step)


def looked(text: str, env, samples: int = 200):
    looks = Looks()
    run = launch(recipe(text) + patch_of("looks", fill={"act.deploy": looks}), env, samples)
    return looks.steps, run


def test_classes_are_clusters_of_values():
    label = classes([0.0, 0.1, 5.0, 5.1, 5.2, 40.0], 3, 0)
    assert len(label.unique()) == 3 and label.tolist() == [label[0]] * 2 + [label[2]] * 3 + [label[5]]


@pytest.mark.parametrize("values", ([3.0] * 7, [1.0, 2.0]))
def test_no_more_classes_than_values(values):
    assert len(classes(values, 6, 0).unique()) == len(set(values))


def test_rare_classes_are_drawn_as_often_as_common_ones():
    """An unbalanced store: classes of 90, 9 and 1 snapshots, each drawn a third of the time, evenly within."""
    store = LiveSnapshots(Snapshots("", 1.0, 3, 5, 1, 1), Run(100))
    store.label = torch.tensor([0] * 90 + [1] * 9 + [2])
    rng = torch.Generator().manual_seed(0)
    drawn = torch.tensor([store.draw(rng) for _ in range(9000)])
    assert chisquare(store.label[drawn].bincount()).pvalue > 0.001
    assert chisquare(drawn[(drawn >= 90) & (drawn < 99)].bincount(minlength=99)[90:]).pvalue > 0.001


@pytest.mark.parametrize("base", ("dqn", "control.ppo"))
def test_episodes_begin_along_the_teacher_s_and_are_cut_and_then_from_the_start(base):
    text = f"{small(base)}+snapshot-rl(share=0.5, limit=2, classes=1, episodes=2)"
    steps, run = looked(text, lambda: Walker(length=50))
    first = [i for i, step in enumerate(steps[:100]) if i == 0 or steps[i - 1].ended]
    assert {int(steps[i].obs[0, 0]) for i in first} == {0, 1}, "episodes of the teacher"
    assert {int(steps[i].obs[0, 1]) for i in first} == {0, 10, 20, 30, 40}, "every tenth step of its fifty"
    assert all(steps[i + 1].cut and not steps[i + 1].term for i in first), "cut after two steps, and valued beyond"
    after = [steps[i + 1].obs[0, 1].item() for i in range(102, len(steps) - 1) if steps[i].ended]
    assert set(after) <= {0.0}, "after the phase they begin where the environment begins"
    assert run.ledger.demonstrations == 100 and run.ledger.samples == 200


def test_a_saved_policy_can_be_the_teacher_and_has_seeds_of_its_own(tmp_path):
    """Noisy starts: the states of the teacher's episodes are those of its own seeds, whoever learns."""
    launch(small("sac"), "Pendulum-v1", 60, out=tmp_path / "teacher")
    folder = str(tmp_path / "teacher" / "model")
    text = f"+snapshot-rl(teacher={folder!r}, share=1.0, classes=1, limit=5, episodes=1, every=200)"
    for base in ("td3", "control.ppo"):
        steps, run = looked(small(base) + text, "Pendulum-v1", 50)
        first = [step.obs[0] for i, step in enumerate(steps) if i == 0 or steps[i - 1].ended]
        assert len(first) == 10 and all(torch.equal(x, first[0]) for x in first)
        run.env.start_over()
        assert not torch.equal(run.env.begin(torch.arange(1))[0], first[0]), "the first of the run's own episodes"


def test_the_task_of_a_snapshot_comes_with_it():
    steps, run = looked(f"{small('control.ppo')}+snapshot-rl(share=1.0, limit=2, every=1, classes=1)", TaskedWalker)
    assert len({step.obs[0, 0].item() for step in steps}) > 1, "tasks differ"
    assert run.env.tasks is not None


def test_bad_teachers_and_environments_are_refused(tmp_path):
    launch(small("dqn"), "CartPole-v1", 40, out=tmp_path / "a")
    other = f"+snapshot-rl(teacher={str(tmp_path / 'a' / 'model')!r})"
    with pytest.raises(BadTask, match=r"trained on CartPole-v1, whose spaces are others than those of Pendulum-v1"):
        launch(small("sac") + other, "Pendulum-v1", 40)
    with pytest.raises(BadRun, match="holds no policy"):
        launch(small("sac") + "+snapshot-rl(teacher='nowhere')", "Pendulum-v1", 40, out=tmp_path / "b")
    assert not (tmp_path / "b" / "run.json").exists(), "the folder is free for the next try"
    with pytest.raises(BadTask, match="cannot save its state"):
        launch(small("dqn") + "+snapshot-rl", lambda: Counter(length=5), 40)
    with pytest.raises(BadTask, match="steps them by itself"):
        launch(small("dqn") + "+snapshot-rl", lambda: gymnasium.make_vec("CartPole-v1", num_envs=2), 40)
    for text in ("share=1.5", "classes=0", "limit=-1"):
        with pytest.raises(BadRecipe, match="snapshot-rl"):
            recipe(f"sac+snapshot-rl({text})")


def test_the_store_survives_a_kill(tmp_path):
    text = f"{small('sac')}+snapshot-rl(share=0.9, limit=7, episodes=2)"
    assert same_after_a_kill(text, "Pendulum-v1", tmp_path)
