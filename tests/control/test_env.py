"""Environments: what a step says is what happened, in every mode; and what is wrong is one message."""

import time

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import frugal
from frugal.control import evaluate
from frugal.control.env import environments
from frugal.control.find import find_environment
from frugal.core.errors import BadTask, MissingExtra, RunFailed, UnknownName
from tests.control.tinyenv import Chain, Counter, Noise, Pictures, Tasked, act, run_on
from tests.control.tinyrun import launch

MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)


def vector(mode, lengths=(3, 4)):
    return lambda: SyncVectorEnv([lambda k=k: Counter(length=k) for k in lengths], autoreset_mode=mode)


def check_pairs(steps, lengths):
    """Every valid step leads from step t of an episode to step t + 1 of the same one, and is cut where it ends."""
    seen = 0
    for step in steps:
        for row in step.valid.nonzero()[:, 0].tolist():
            (episode, t), (after, u) = step.obs[row].tolist(), step.next[row].tolist()
            assert after == episode and u == t + 1, "a stored pair spans a reset"
            assert bool(step.cut[row]) == (u == lengths[row]) and not step.term[row]
            assert float(step.reward[row]) == 1 and float(step.ret[row]) == u == int(step.length[row])
            seen += 1
    return seen


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_pitfall_2_no_pair_spans_a_reset_in_any_autoreset_mode(mode):
    env = environments(vector(mode), 2, 0)
    steps = run_on(env, 24)
    invalid = sum(int((~step.valid).sum()) for step in steps)
    assert check_pairs(steps, (3, 4)) + invalid == 48
    # of 24 calls an environment of length k uses every (k + 1)-th for a reset, if it resets in the next step
    assert invalid == (24 // 4 + 24 // 5 if mode == AutoresetMode.NEXT_STEP else 0)


def test_pitfall_2_single_environments_too():
    env = environments(lambda: Counter(length=3), 2, 0)
    assert check_pairs(run_on(env, 24), (3, 3)) == 48
    assert env.episodes.tolist() == [9, 9]


def test_pitfall_14_every_episode_has_a_seed_of_its_own_and_zero_is_one():
    env = environments(lambda: Counter(length=3), 8, 0)
    run_on(env, 9)
    seeds = [seed for one in env.envs for seed in one.seeds]
    assert len(seeds) == len(set(seeds)) == 32 and None not in seeds


def trace(seed, n=4):
    return torch.stack([step.next for step in run_on(environments(Noise, n, seed), 30)])


def test_pitfall_14_runs_repeat_and_rows_differ():
    a = trace(0)
    assert torch.equal(a, trace(0)) and not torch.equal(a, trace(1))
    assert len({tuple(row.flatten().tolist()) for row in a.unbind(1)}) == 4


def test_pitfall_14_the_action_space_is_seeded():
    spaces = []
    for _ in range(2):
        env = environments(Noise, 2, 0)
        env.begin(torch.arange(2))
        spaces.append([float(one.action_space.sample()[0]) for one in env.envs])
    assert spaces[0] == spaces[1] and spaces[0][0] != spaces[0][1]


class Bounds(Chain):
    """Keeps the actions that it was given; bounds are lopsided and differ by dimension."""

    action_space = Box(np.array([0.0, -3.0], np.float32), np.array([10.0, 1.0], np.float32))

    def step(self, action):
        self.taken = action
        return super().step(action)


def test_pitfall_7_actions_are_rescaled_by_dimension():
    env = environments(Bounds, 1, 0)
    env.begin(torch.arange(1))
    for a, wanted in (((-1, -1), (0, -3)), ((1, 1), (10, 1)), ((0, 0), (5, -1)), ((0.5, -5), (7.5, -3))):
        step = env.step(torch.tensor([a]).float())
        assert env.envs[0].taken.tolist() == list(wanted) and env.envs[0].taken.dtype == np.float32
        assert step.act.tolist() == [list(a)], "what is kept is what the policy said"


def test_pitfall_13_float64_becomes_float32_once_and_pictures_stay_uint8():
    env = environments(lambda: Counter(dtype=np.float64), 1, 0)
    assert run_on(env, 2)[0].next.dtype == torch.float32 and env.spaces.shape == (2,)
    env = environments(Pictures, 1, 0)
    step = run_on(env, 2)[1]
    assert step.next.dtype == torch.uint8 and step.next.shape == (1, 16, 16, 3) and int(step.next.max()) == 20
    env = environments(lambda: gymnasium.wrappers.FrameStackObservation(Frames(), 4), 1, 0)
    assert env.begin(torch.arange(1)).shape == (1, 16, 17, 4) == (1, *env.spaces.shape)
    assert run_on(env, 3)[2].next[0, 5, 6].tolist() == [0, 10, 20, 30], "channels come last"


class Frames(Pictures):
    """Without colours."""

    def __init__(self):
        super().__init__(length=9)
        self.observation_space = Box(0, 255, (16, 17), np.uint8)


class Mixed(Chain):
    observation_space = Dict({"b": Discrete(3), "a": Box(-1, 1, (2,), np.float64)})

    def __init__(self, actions):
        self.action_space = actions
        self.taken = None

    def reset(self, *, seed=None, options=None):
        return {"b": 2, "a": np.array([0.5, -0.5])}, {}

    def step(self, action):
        self.taken = action
        assert self.action_space.contains(action)
        return {"b": 0, "a": np.array([0.0, 1.0])}, 0.0, False, False, {}


@pytest.mark.parametrize(
    "space,a,taken",
    [
        (Discrete(3, start=5), [2], 7),
        (MultiDiscrete([3, 2]), [2, 1], [2, 1]),
        (MultiBinary(3), [0, 1, 1], [0, 1, 1]),
        (Box(-2, 2, (1, 2), np.float32), [0.5, -1.0], [[1.0, -2.0]]),
    ],
    ids=lambda x: str(x)[:20],
)
def test_spaces(space, a, taken):
    env = environments(lambda: Mixed(space), 1, 0)
    assert env.begin(torch.arange(1)).tolist() == [[0.5, -0.5, 0, 0, 1]]
    step = env.step(torch.tensor([a]).float())
    assert np.asarray(env.envs[0].taken).tolist() == taken
    assert step.next.tolist() == [[0, 1, 1, 0, 0]]


def test_columns_are_read_from_info():
    for make in (lambda: Counter(), vector(AutoresetMode.NEXT_STEP)):
        env = environments(make, 1, 0, columns=("twice",))
        step = run_on(env, 2)[1]
        assert step.columns["twice"].tolist() == [[4.0]] * env.n
    env = environments(Counter, 1, 0, columns=("thrice",))
    env.begin(torch.arange(1))
    with pytest.raises(BadTask, match="'thrice'"):
        env.step(act(env))


def test_start_may_say_task_limit_and_state():
    env = environments(Tasked, 3, 0)
    env.begin(torch.arange(3), [{"task": torch.tensor([[2.0], [3.0], [6.0]])}, {"limit": [0, 0, 4]}])
    assert env.tasks.tolist() == [[2], [3], [6]]
    cuts = [env.step(act(env)).cut.tolist() for _ in range(2)]
    env.begin(torch.tensor([0]), [{"task": torch.tensor([[5.0]])}])
    cuts += [env.step(act(env)).cut[[0, 2]].tolist() for _ in range(2)]
    assert cuts == [[False] * 3, [True, False, False], [False, False], [False, True]]
    assert [one.told[0].tolist() for one in env.envs] == [[2], [3], [6]] and env.tasks[0].tolist() == [5]
    with pytest.raises(BadTask, match="takes no task"):
        environments(Counter, 1, 0).begin(torch.arange(1), [{"task": torch.ones(1, 1)}])


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0", "HalfCheetah-v5"]
)
def test_a_snapshot_leads_where_the_original_led(name):
    if name.startswith("Half"):
        pytest.importorskip("mujoco")
    env = environments(find_environment(name), 1, 0)
    env.begin(torch.arange(1))
    for _ in range(5):
        env.step(act(env, 0.0))
    here, state = env.obs.clone(), env.snapshot(0)
    wanted = env.step(act(env, 1.0)).next.clone()
    assert torch.equal(env.begin(torch.arange(1), [{"state": [state]}]), here)
    assert torch.equal(env.step(act(env, 1.0)).next, wanted)


def test_who_cannot_save_a_state_says_so():
    with pytest.raises(BadTask, match="get_state"):
        environments(Chain, 1, 0).snapshot(0)


@pytest.mark.parametrize(
    "task",
    ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", Tasked, *map(vector, MODES)],
    ids=["CartPole", "Pendulum", "HalfCheetah", "a class", *(mode.value for mode in MODES)],
)
def test_an_environment_that_cannot_save_itself_is_brought_back_by_its_actions(task):
    if task == "HalfCheetah-v5":
        pytest.importorskip("mujoco")
    rng = torch.Generator().manual_seed(0)
    one, other = (environments(find_environment(task), 2, 7) for _ in range(2))

    def go(env, steps, rng):
        for _ in range(steps):
            a = torch.rand(env.n, env.spaces.actions, generator=rng)
            step = env.step(a * 2 - 1 if env.spaces.continuous else a.round())
            if step.ended.any():
                env.begin(step.ended.nonzero()[:, 0])
        return step

    one.begin(torch.arange(2))
    go(one, 37, rng)
    other.load_state_dict(one.state_dict())
    ends = [go(env, 60, torch.Generator().manual_seed(1)) for env in (one, other)]
    for name in ("obs", "next", "reward", "term", "cut", "ret", "length"):
        assert torch.equal(*(getattr(end, name) for end in ends)), name


class Restless(Counter):
    """Does not repeat itself."""

    born = 0

    def __init__(self):
        super().__init__()
        Restless.born += 1
        self.episode = Restless.born


def test_an_environment_that_does_not_repeat_itself_is_found_out():
    one = environments(Restless, 1, 0)
    run_on(one, 2)
    with pytest.raises(RunFailed, match="does not repeat itself"):
        environments(Restless, 1, 0).load_state_dict(one.state_dict())


class Broken(Counter):
    def __init__(self, how):
        super().__init__(length=100)
        self.how = how

    def step(self, action):
        obs, reward, *rest = super().step(action)
        if self.t == 3 and self.how == "raises":
            raise ZeroDivisionError("no floor")
        if self.t == 3 and self.how == "hangs":
            time.sleep(60)
        if self.t == 3 and self.how == "NaN observation":
            obs = obs * np.nan
        return obs, np.nan if self.t == 3 and self.how == "NaN reward" else reward, *rest


@pytest.mark.parametrize(
    "how,words",
    [
        ("raises", "ZeroDivisionError: no floor"),
        ("hangs", "hangs"),
        ("NaN observation", "an observation"),
        ("NaN reward", "a reward"),
    ],
)
def test_what_breaks_is_one_message(how, words):
    env = environments(lambda: Broken(how), 1, 0, name="mine", seconds=0.2)
    env.stopped = "; go on"
    env.begin(torch.arange(1))
    env.step(act(env)), env.step(act(env))
    with pytest.raises(RunFailed, match=words) as error:
        env.step(act(env))
    assert "mine" in str(error.value) and "the step is not recorded; go on" in str(error.value)


def test_an_episode_without_end_does_not_hang_its_evaluation(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "LONGEST", 50)
    with pytest.raises(BadTask, match=r"has not ended after 50 steps.*max_episode_steps"):
        frugal.run("control.ppo(steps=8)", lambda: Counter(length=10**9), samples=8, out=tmp_path)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    "task,error,words",
    [
        ("CartPoll-v1", UnknownName, "CartPole-v1"),
        ("NoSuchThing-v9", UnknownName, "unknown environment"),
        ("CartPole-v1(legs=2)", BadTask, "legs"),
        ("none.py:make", BadTask, "none.py"),
        ("ALE/Pong-v5", MissingExtra, r"frugal-rl\[atari\]"),
        ("MiniGrid-Empty-5x5-v0", MissingExtra, r"frugal-rl\[minigrid\]"),
        (7, BadTask, "no environment"),
    ],
)
def test_names_that_mean_no_environment(task, error, words):
    if error is MissingExtra:
        with pytest.raises(ImportError):
            __import__({"A": "ale_py", "M": "minigrid"}[task[0]])
    with pytest.raises(error, match=words):
        find_environment(task)()


def test_a_missing_dependency_names_the_command(monkeypatch):
    def missing(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install ...`")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(MissingExtra, match=r'pip install "frugal-rl\[mujoco\]"'):
        find_environment("HalfCheetah-v5")()


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda: Mixed(Box(-np.inf, np.inf, (1,))), "without bounds"),
        (lambda: Mixed(gymnasium.spaces.Text(3)), "Text"),
        (lambda: 3, "no Gymnasium environment"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_environments_that_no_recipe_handles(make, words):
    with pytest.raises((BadTask, RunFailed), match=words):
        environments(make, 1, 0)


def test_an_instance_is_copied_for_evaluation_and_refused_twice():
    mine = Counter()
    make = find_environment(mine)
    assert make() is mine and make() is not mine
    same = Counter()
    with pytest.raises(BadTask, match="same environment twice"):
        environments(lambda: same, 2, 0)


def test_a_run_that_cannot_begin_leaves_its_folder_free(tmp_path):
    with pytest.raises(BadTask, match="alp-gmm chooses tasks"):
        frugal.run("control.ppo(steps=64)+alp-gmm", "CartPole-v1", samples=64, out=tmp_path)
    assert not (tmp_path / "run.json").exists()
    frugal.run("control.ppo(steps=64)", "CartPole-v1", samples=64, evaluations=1, eval_episodes=1, out=tmp_path)


class Mission(Space[str]):
    """A text that Gymnasium cannot flatten, as MiniGrid's."""


class Told(Chain):
    """A number, and a mission."""

    observation_space = Dict({"mission": Mission(), "place": Box(-1, 1, (2,))})

    def reset(self, **told):
        obs, info = super().reset(**told)
        return {"mission": "go", "place": np.resize(obs, 2)}, info


class NoNumbers(Chain):
    observation_space = Dict({"mission": Mission()})


def test_of_a_dict_what_is_no_number_is_left_out_and_said():
    with pytest.warns(UserWarning, match="do not see mission"):
        env = environments(Told, 1, 0)
    assert env.begin(torch.arange(1)).shape == (1, 2)
    with pytest.raises(BadTask, match="size is not fixed"):
        environments(NoNumbers, 1, 0)


@pytest.mark.parametrize(
    "task", [lambda: SyncVectorEnv([lambda: Counter(5)] * 4), lambda: gymnasium.make_vec("CartPole-v1", num_envs=4)]
)
def test_a_vector_of_any_number_trains_and_is_evaluated(task):
    run = launch("dqn(warmup=4, batch=4)", task(), samples=40, eval_episodes=6)
    assert run.ledger.samples >= 40 and run.ledger.evaluation.episodes == 12


def picture(*shape):
    class Seen(Pictures):
        def __init__(self):
            super().__init__()
            self.observation_space = Box(0, 255, shape, np.uint8)

    return Seen


def test_small_and_grey_pictures_are_convolved_and_tiny_ones_refused():
    for shape, seen in (((7, 9, 3), (7, 9, 3)), ((16, 16), (16, 16, 1))):
        run = launch("dqn(warmup=4, batch=4)", picture(*shape), samples=12)
        assert run.spaces.pixels and run.spaces.shape == seen and run.ledger.gradient_steps
    with pytest.raises(BadTask, match=r"6 pixels .* too small"):
        launch("dqn(warmup=4, batch=4)", picture(6, 9, 3), samples=12)
    with pytest.raises(BadTask, match="leave out normalise"):
        launch("control.ppo(normalise=True)", picture(16, 16, 3), samples=12)


def test_all_seeds_are_evaluated_on_the_same_episodes():
    first = [launch("control.ppo", Noise, samples=16, seed=seed, eval_episodes=8).curve[0] for seed in (0, 1)]
    assert first[0]["length"] == first[1]["length"] and first[0]["return"] != first[1]["return"]
