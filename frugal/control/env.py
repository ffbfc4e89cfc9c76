"""Environments that step together and begin again one by one.

A step tells the true successor of every observation, never the first one of the next episode. Axes: N environments,
E of them beginning, O observation, A action dimensions, C task parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from torch import Tensor

from frugal.core.errors import BadTask, RunFailed
from frugal.core.stages import task_name

from .find import Maker
from .spaces import Spaces, actions, observations
from .states import restore_state, save_state
from .watch import watched


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


def environments(
    make: Maker, n: int, seed: int, name: str = "", columns: Sequence[str] = (), seconds: float = 60.0
) -> Environments:
    """N environments from `make`, or all those of the vector environment that it gives.

    Every episode has a seed of its own, derived from `seed`. `columns` are names in `info` that are kept; `seconds` the
    longest step. Raises `BadTask` or `RunFailed`.
    """
    with watched(name or "the environment", "cannot be made", seconds):
        first = make()
    name = name or task_name(first)
    if not hasattr(first, "step") or not hasattr(first, "action_space"):
        raise BadTask(f"{name} gives a {type(first).__name__}, no Gymnasium environment")
    if isinstance(first, VectorEnv):
        from .vector import Vector

        if n not in (1, first.num_envs):
            raise BadTask(f"{name} has {first.num_envs} environments; leave envs={n} out of the recipe")
        return Vector(make, [first], seed, name, columns, seconds)
    with watched(name, "cannot be made", seconds):
        envs = [first, *(make() for _ in range(n - 1))]
    if len({id(env) for env in envs}) < n:
        raise BadTask(f"{name} gives the same environment twice; give a function that makes new ones")
    return Environments(make, envs, seed, name, columns, seconds)


class Environments:
    """Environments that step one after another; those of a vector environment are a `Vector`. See `environments`."""

    vector = False

    def __init__(self, make: Maker, envs: list[Any], seed: int, name: str, columns: Sequence[str], seconds: float):
        self.make, self.envs, self.seed, self.name, self.seconds = make, envs, seed, name, seconds
        self.stopped = ""  # what is said last of a step that fails
        self.n, seen, self.action_space = self._sizes(envs[0])
        shape, pixels, self._flat = observations(seen, name)
        tasks = getattr(getattr(envs[0], "unwrapped", envs[0]), "task_space", None)
        low, high = (_numbers(tasks.low), _numbers(tasks.high)) if isinstance(tasks, Box) else ((), ())
        self.spaces = Spaces(shape, pixels, **actions(self.action_space, name), task_low=low, task_high=high)
        self.kept = tuple(columns)
        self.obs = torch.zeros(self.n, *shape, dtype=torch.uint8 if pixels else torch.float32)
        self.episodes = np.zeros(self.n, np.int64)  # begun
        self.ret, self.length = np.zeros(self.n), np.zeros(self.n, np.int64)
        self.begins = [Begin(0) for _ in range(self.n)]
        self.done: list[list[np.ndarray]] = [[] for _ in range(self.n)]  # actions of the episode so far

    def _sizes(self, first: Any) -> tuple[int, Any, Any]:
        """How many there are, and the spaces of one of them."""
        return len(self.envs), first.observation_space, first.action_space

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
        self._begin_rows(rows, said)
        return self.obs

    def _begin_rows(self, rows: Tensor, said: Mapping[str, Any]) -> None:
        for i, row in enumerate(rows.tolist()):
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

    def start_over(self) -> None:
        """Forget all episodes: what begins next are the first ones again."""
        self.episodes[:], self.ret[:], self.length[:] = 0, 0, 0

    # -- step -------------------------------------------------------------------------------------------------

    def step(self, act: Tensor, active: Tensor | None = None) -> Step:
        """One step with act [N,A] of the environments that are `active` [N], all without it."""
        a = act.numpy()
        next = np.empty(tuple(self.obs.shape), np.uint8 if self.spaces.pixels else np.float32)
        reward = np.zeros(self.n, np.float32)
        term, cut = np.zeros(self.n, bool), np.zeros(self.n, bool)
        valid = np.ones(self.n, bool) if active is None else active.numpy().copy()
        infos = self._advance(a, next, reward, term, cut, valid)
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

    def _advance(self, a: np.ndarray, *out: np.ndarray) -> list[Mapping[str, Any]]:
        """Step by a [N,A], fill in next, reward, term and cut where `valid`, and return what each `info` says."""
        next, reward, term, cut, valid = out
        infos: list[Mapping[str, Any]] = [{}] * self.n
        taken, rows = self.spaces.act(a), np.flatnonzero(valid)
        with self._watched("failed in a step"):
            for row in rows:
                obs, r, ended, truncated, infos[row] = self.envs[row].step(self.spaces.own(taken[row]))
                next[row], reward[row], term[row], cut[row] = self._flat(obs), r, ended, truncated
        for row in rows:
            self.done[row].append(a[row].copy())
            cut[row] |= 0 < self.begins[row].limit <= self.length[row] + 1
        next[~valid] = self.obs.numpy()[~valid]
        return infos

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
        self._go_again(state)
        self.episodes[:] = state["episodes"]
        if not torch.equal(self.obs, state["obs"]):
            raise RunFailed(
                f"{self.name} does not repeat itself: the same seed and actions lead to another observation than "
                "before, so the run cannot go on to the result that it would have had; begin it again"
            )

    def _go_again(self, state: Mapping[str, Any]) -> None:
        for row, (seed, task, limit) in enumerate(state["begins"]):
            snapshot = state.get(f"state/{row}")
            self._begin(row, Begin(seed, task, None if snapshot is None else snapshot.numpy(), limit))
            active = torch.arange(self.n) == row
            for a in state.get(f"done/{row}", ()):
                self.step(a.expand(self.n, -1), active)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    # -- small things -----------------------------------------------------------------------------------------

    def _seed_of(self, row: int, episode: int) -> int:
        return int(np.random.SeedSequence([self.seed, row, episode]).generate_state(1)[0])

    def _own_task(self, seed: int) -> np.ndarray:
        """Without a curriculum, tasks are drawn evenly from their box."""
        return np.random.default_rng(seed).uniform(self.spaces.task_low, self.spaces.task_high)

    def _check(self, value: np.ndarray, what: str) -> None:
        if value.dtype != np.uint8 and not np.isfinite(value).all():
            raise RunFailed(f"{self.name} gave {what} that is NaN or infinite; the step is not recorded{self.stopped}")

    def _watched(self, what: str) -> AbstractContextManager[None]:
        return watched(self.name, what, self.seconds, self.stopped)


def _row(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32).reshape(-1)


def _numbers(x: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, np.ravel(x)))
