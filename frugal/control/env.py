"""Environments that step together and begin again one by one; Gymnasium's and its three ways of resetting made one.

A step tells the true successor of every observation, never the first one of the next episode. Axes: N environments,
E of them beginning, O observation, A action dimensions, C task parameters.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate
from torch import Tensor

from frugal.core.errors import BadTask, FrugalError, RunFailed
from frugal.core.stages import task_name

from .find import Maker
from .spaces import Spaces, actions, observations
from .states import restore_state, save_state


@dataclass
class Step:
    """One step of all environments."""

    obs: Tensor  # [N,O] float32, or uint8 pictures
    act: Tensor  # [N,A] float32
    reward: Tensor  # [N]
    next: Tensor  # [N,O] the true successor
    term: Tensor  # [N] bool: no state follows
    cut: Tensor  # [N] bool: the episode ends here, but its value goes on
    valid: Tensor  # [N] bool: a transition at all; a vector environment may use a step for a reset
    columns: dict[str, Tensor] = field(default_factory=dict)  # {name in `info`: [N,*]}
    ret: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N] float64, reward of the episode so far
    length: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N] its steps so far

    @property
    def ended(self) -> Tensor:
        return self.term | self.cut


@dataclass
class Ended:
    """Environments that are about to begin, and the episodes that they come from; `ret` is None for the first ones."""

    rows: Tensor  # [E]
    task: Tensor | None  # [E,C] of the episode that ended, where there are tasks
    ret: Tensor | None  # [E]
    length: Tensor  # [E]


@dataclass
class Begin:
    """What an episode begins from, all that is needed to begin it again."""

    seed: int
    task: list[float] | None = None
    state: np.ndarray | None = None  # a snapshot, of `Environments.snapshot`
    limit: int = 0  # steps; 0: the environment's own


class Hung(BaseException):
    """A step took too long. No Exception, so that an environment does not catch it."""


class Environments:
    """N environments from `make`, whose every episode has a seed of its own, derived from `seed`.

    `columns` are names in `info` that are kept; `seconds` the longest step.
    """

    def __init__(
        self,
        make: Maker,
        n: int,
        seed: int,
        name: str = "",
        columns: Sequence[str] = (),
        seconds: float = 60.0,
    ):
        self.make, self.seed, self.seconds, self.stopped = make, seed, seconds, ""
        with self._watched("cannot be made"):
            first = make()
        self.name = name or task_name(first)
        self.vector = isinstance(first, VectorEnv)
        if not hasattr(first, "step") or not hasattr(first, "action_space"):
            raise BadTask(f"{self.name} gives a {type(first).__name__}, no Gymnasium environment")
        if self.vector and n not in (1, first.num_envs):
            raise BadTask(f"{self.name} has {first.num_envs} environments; leave envs={n} out of the recipe")
        self.n = first.num_envs if self.vector else n
        self.envs: list[Any] = [first]
        with self._watched("cannot be made"):
            self.envs += [make() for _ in range(0 if self.vector else n - 1)]
        if len({id(env) for env in self.envs}) < len(self.envs):
            raise BadTask(f"{self.name} gives the same environment twice; give a function that makes new ones")
        self.mode = first.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP) if self.vector else None
        seen = first.single_observation_space if self.vector else first.observation_space
        shape, pixels, self._flat = observations(seen, self.name)
        done = first.single_action_space if self.vector else first.action_space
        tasks = getattr(getattr(first, "unwrapped", first), "task_space", None)
        low, high = (_numbers(tasks.low), _numbers(tasks.high)) if isinstance(tasks, Box) else ((), ())
        self.spaces = Spaces(shape, pixels, **actions(done, self.name), task_low=low, task_high=high)
        self.action_space, self.kept = done, tuple(columns)
        self.obs = torch.zeros(self.n, *shape, dtype=torch.uint8 if pixels else torch.float32)
        self.episodes = np.zeros(self.n, np.int64)  # begun
        self.ret, self.length = np.zeros(self.n), np.zeros(self.n, np.int64)
        self.begins = [Begin(0) for _ in range(self.n)]
        self.done: list[list[np.ndarray]] = [[] for _ in range(self.n)]  # actions of the episode so far
        self._waiting = np.zeros(self.n, bool)  # of a vector environment: this step is a reset
        self._again: Any = None  # what a vector environment that resets in the same step begins with
        self.begun = False

    @property
    def tasks(self) -> Tensor | None:
        """The present task of every environment, [N,C]."""
        return torch.tensor([begin.task for begin in self.begins]) if self.spaces.task_low else None

    # -- begin ------------------------------------------------------------------------------------------------

    def begin(self, rows: Tensor, starts: Sequence[Mapping[str, Any]] = ()) -> Tensor:
        """Begin an episode in each of rows [E]; the present observations [N,O].

        `starts` are what the owners of start.reset say: task, state, limit for each of the rows.
        """
        said: dict[str, Any] = {}
        for one in starts:
            said.update({k: v for k, v in one.items() if v is not None})
        if self.vector:
            if said:
                raise BadTask(
                    f"{self.name} steps its environments by itself, so that nobody else decides what they begin from; "
                    "give a function that makes one environment, and envs=N"
                )
            self._begin_vector(rows)
            return self.obs
        where = rows.tolist()
        for i, row in enumerate(where):
            start = Begin(self._seed_of(row, int(self.episodes[row])))
            if self.spaces.task_low:
                task = said["task"][i] if "task" in said else None
                start.task = [float(x) for x in (self._own_task(start.seed) if task is None else task)]
            elif "task" in said:
                raise BadTask(f"{self.name} takes no task: it has no Box `task_space`")
            start.state = said["state"][i] if "state" in said else None
            start.limit = int(said["limit"][i]) if "limit" in said else 0
            self.episodes[row] += 1
            self._begin(row, start)
        return self.obs

    def _begin(self, row: int, start: Begin) -> None:
        self.begins[row], self.done[row] = start, []
        self.ret[row] = self.length[row] = 0
        env = self.envs[row]
        with self._watched("failed in its reset"):
            env.action_space.seed(start.seed)
            options = {"task": np.array(start.task, np.float32)} if start.task is not None else None
            obs, _ = env.reset(seed=start.seed, options=options)
            if start.state is not None:
                obs = restore_state(env, start.state)
            value = self._flat(obs)
        self._check(value, "an observation")
        self.obs = self.obs.clone()  # who holds the former one keeps it
        self.obs[row] = torch.from_numpy(value)

    def _begin_vector(self, rows: Tensor) -> None:
        env = self.envs[0]
        if not self.begun or self.mode == AutoresetMode.DISABLED:
            mask = np.zeros(self.n, bool)
            mask[rows.numpy()] = True
            seeds: Any = [self._seed_of(row, int(k)) for row, k in enumerate(self.episodes)]
            with self._watched("failed in its reset"):
                if not self.begun:
                    env.action_space.seed(seeds[0])
                    self.done[0] = []
                whole = bool(mask.all())
                if not isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):  # one generator for all of them
                    seeds = None if self.begun else seeds[0]
                obs, _ = env.reset(seed=seeds, options=None if whole else {"reset_mask": mask})
                values = self._flat_all(obs)
            self.begun = True
        elif self.mode == AutoresetMode.SAME_STEP:
            values = self._again
        else:  # the next step is the reset
            self._waiting[rows.numpy()] = True
            return
        self._check(values, "an observation")
        self.obs = self.obs.clone()
        self.obs[rows] = torch.from_numpy(values)[rows]
        self.episodes[rows.numpy()] += 1
        self.ret[rows.numpy()] = 0
        self.length[rows.numpy()] = 0

    def start_over(self) -> None:
        """Forget all episodes: what begins next are the first ones again."""
        self.episodes[:], self._waiting[:], self.begun = 0, False, False
        self.ret[:], self.length[:] = 0, 0

    # -- step -------------------------------------------------------------------------------------------------

    def step(self, act: Tensor, active: Tensor | None = None) -> Step:
        """One step with act [N,A] of the environments that are `active` [N], all without it."""
        a = act.numpy()
        taken = self.spaces.act(a)
        next = np.empty(tuple(self.obs.shape), np.uint8 if self.spaces.pixels else np.float32)
        reward = np.zeros(self.n, np.float32)
        term, cut = np.zeros(self.n, bool), np.zeros(self.n, bool)
        rows = range(self.n) if active is None else active.nonzero()[:, 0].tolist()
        valid = np.ones(self.n, bool) if active is None else active.numpy().copy()
        infos: list[Mapping[str, Any]] = [{}] * self.n
        if self.vector:
            infos = self._step_vector(taken, next, reward, term, cut, valid)
            self.done[0].append(a.copy())
        else:
            with self._watched("failed in a step"):
                for row in rows:
                    obs, r, ended, truncated, infos[row] = self.envs[row].step(self.spaces.own(taken[row]))
                    next[row], reward[row], term[row], cut[row] = self._flat(obs), r, ended, truncated
            for row in rows:
                self.done[row].append(a[row].copy())
                limit = self.begins[row].limit
                cut[row] |= 0 < limit <= self.length[row] + 1
            if active is not None:
                next[~valid] = self.obs.numpy()[~valid]
        cut &= ~term
        self._check(next, "an observation")
        self._check(reward, "a reward")
        self.ret[valid] += reward[valid]
        self.length[valid] += 1
        step = Step(
            self.obs,
            act,
            torch.from_numpy(reward),
            torch.from_numpy(next),
            torch.from_numpy(term),
            torch.from_numpy(cut),
            torch.from_numpy(valid),
            {name: self._column(name, infos, valid) for name in self.kept},
            torch.from_numpy(self.ret.copy()),
            torch.from_numpy(self.length.copy()),
        )
        self.obs = step.next
        return step

    def _step_vector(self, taken: np.ndarray, *out: np.ndarray) -> list[Mapping[str, Any]]:
        next, reward, term, cut, valid = out
        with self._watched("failed in a step"):
            action = taken.reshape(self.n, *self.action_space.shape).astype(self.action_space.dtype)
            obs, r, ended, truncated, info = self.envs[0].step(action)
            values = self._flat_all(obs)
        self._again = values
        next[:] = values
        final = info.get("final_obs") if self.mode == AutoresetMode.SAME_STEP else None
        if final is not None:
            for row in np.flatnonzero(ended | truncated):
                next[row] = self._flat(final[row])
        reward[:], term[:], cut[:] = r, ended, truncated
        valid &= ~self._waiting
        for row in np.flatnonzero(self._waiting):
            self.episodes[row] += 1
            self.ret[row] = self.length[row] = 0
            reward[row], term[row], cut[row] = 0, False, False
        self._waiting[:] = False
        rows: list[Mapping[str, Any]] = [
            {k: v[row] for k, v in info.items() if k in self.kept} for row in range(self.n)
        ]
        for row in np.flatnonzero(ended | truncated) if "final_info" in info else ():
            rows[row] = {k: v[row] for k, v in info["final_info"].items() if k in self.kept}
        return rows

    def _column(self, name: str, infos: Sequence[Mapping[str, Any]], valid: np.ndarray) -> Tensor:
        """What `info` says under a name, [N,*] float32; 0 where there was no step."""
        try:
            said = [_row(infos[row][name]) if valid[row] else None for row in range(self.n)]
        except KeyError:
            raise BadTask(f"a part of the recipe reads {name!r} from `info`, which {self.name} does not say") from None
        width = max((len(x) for x in said if x is not None), default=1)
        column = np.stack([np.zeros(width, np.float32) if x is None else x for x in said])
        self._check(column, name)
        return torch.from_numpy(column)

    # -- snapshots and checkpoints ----------------------------------------------------------------------------

    def snapshot(self, row: int) -> np.ndarray:
        """The state of one environment, for `start.reset` to begin from. Raises `BadTask` if it cannot be saved."""
        return save_state(self.envs[row])

    def state_dict(self) -> dict[str, Any]:
        """How every environment got to where it is: no environment has to be able to save itself."""
        state: dict[str, Any] = {
            "episodes": self.episodes.tolist(),
            "obs": self.obs.clone(),
            "begins": [[b.seed, b.task, b.limit] for b in self.begins],
        }
        for row, done in enumerate(self.done):
            if done:
                state[f"done/{row}"] = torch.from_numpy(np.stack(done))
            snapshot = self.begins[row].state
            if snapshot is not None:
                state[f"state/{row}"] = torch.from_numpy(np.asarray(snapshot))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go the same way again: the same seed, then the same actions. Raises `RunFailed` if it leads elsewhere."""
        if self.vector:
            ended = torch.ones(self.n, dtype=torch.bool)
            self.begin(torch.arange(self.n))
            for a in state.get("done/0", ()):
                ended = self.step(a).ended
                if ended.any():
                    self.begin(ended.nonzero()[:, 0])
        else:
            for row, (seed, task, limit) in enumerate(state["begins"]):
                snapshot = state.get(f"state/{row}")
                self._begin(row, Begin(seed, task, None if snapshot is None else snapshot.numpy(), limit))
                active = torch.arange(self.n) == row
                for a in state.get(f"done/{row}", ()):
                    self.step(a.expand(self.n, -1), active)
        self.episodes[:] = state["episodes"]
        if not torch.equal(self.obs, state["obs"]):
            raise RunFailed(
                f"{self.name} does not repeat itself: the same seed and actions lead to another observation than "
                "before, so the run cannot go on to the result that it would have had; begin it again"
            )

    def close(self) -> None:
        for env in self.envs:
            env.close()

    # -- small things -----------------------------------------------------------------------------------------

    def _seed_of(self, row: int, episode: int) -> int:
        return int(np.random.SeedSequence([self.seed, row, episode]).generate_state(1)[0])

    def _own_task(self, seed: int) -> np.ndarray:
        """Without a curriculum, tasks are drawn evenly from their box."""
        return np.random.default_rng(seed).uniform(self.spaces.task_low, self.spaces.task_high)

    def _flat_all(self, obs: Any) -> np.ndarray:
        space = self.envs[0].observation_space
        return np.stack([self._flat(x) for x in iterate(space, obs)])

    def _check(self, value: np.ndarray, what: str) -> None:
        if value.dtype != np.uint8 and not np.isfinite(value).all():
            raise RunFailed(f"{self.name} gave {what} that is NaN or infinite; the step is not recorded{self.stopped}")

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Within it what an environment raises, or a step that takes too long, is one message."""
        watched = threading.current_thread() is threading.main_thread()
        if watched:
            before = signal.signal(signal.SIGALRM, _ring)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        except FrugalError:
            raise
        except Hung:
            raise RunFailed(
                f"{self.name} hangs: one step took more than {self.seconds:g} s (--step-seconds); "
                f"the step is not recorded{self.stopped}"
            ) from None
        except Exception as error:
            raise RunFailed(
                f"{getattr(self, 'name', 'the environment')} {what}: {type(error).__name__}: {error}; "
                f"the step is not recorded{self.stopped}"
            ) from error
        finally:
            if watched:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)


def _ring(*_: Any) -> None:
    raise Hung


def _row(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32).reshape(-1)


def _numbers(x: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, np.ravel(x)))
