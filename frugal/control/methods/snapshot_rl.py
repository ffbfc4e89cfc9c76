"""Early episodes begin from states that a teacher went through, each stage as often as any other, and are cut short.

Changes      start.reset: in the first `share` of the budget a class of snapshots is drawn evenly, and of it a snapshot,
             evenly too; the episode begins there and is cut after `limit` steps. A snapshot is taken every `every`
             steps of `episodes` episodes of the teacher; classes are k-means clusters of its own value of the state
Source       Snapshot Reinforcement Learning: Leveraging Prior Trajectories for Efficiency, Zhao et al. 2024, arXiv
             2403.00673 (S3RL); its numbers are those of github.com/sdpkjc/snapshotrl for TD3: the first 1e5 steps of
             1e6, ten episodes, every tenth step, six classes by the teacher's critic, 100 steps
Ours         `teacher` is the folder of a saved policy; without one it is the untrained policy of the run itself. A cut
             episode's value goes on, as any. An episode that began from a snapshot before the end of the phase goes on
             to its cut. The teacher's steps are counted as demonstrations, not as samples: they are prior work.
             Where environments have a task, the snapshot's comes with it
Leans on     an environment that can be put into a state: MuJoCo, classic control, or one with get_state and set_state
Experiment   experiments/control/snapshot_rl.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.env import Ended
    from frugal.control.net import Net

NEUTRAL = {"share": 0.0}
ELSEWHERE = 1 << 32  # between the seed of a run's episodes and that of the teacher's


@dataclass(frozen=True)
class Snapshots:
    """Begins episodes along the trajectories of a teacher."""

    teacher: str
    share: float
    classes: int
    limit: int
    episodes: int
    every: int

    def begin(self, run: Any) -> Any:
        if run.env.vector:
            raise BadTask(
                f"snapshot-rl puts environments into states, and {run.env.name} steps them by itself; give a function "
                "that makes one environment, and envs=N"
            )
        return LiveSnapshots(self, run)


class LiveSnapshots:
    def __init__(self, part: Snapshots, run: Any):
        self.part, self.run = part, run
        self.states = self.tasks = torch.zeros(0)  # [snapshots,*] and [snapshots,C]
        self.label = torch.zeros(0, dtype=torch.int64)  # [snapshots] class

    def __call__(self, over: Ended) -> dict[str, Any]:
        if self.run.progress >= self.part.share:
            return {}
        if not len(self.states):
            self.collect()
        rng = self.run.rng("snapshot-rl", self.run.ledger.samples)
        drawn = [self.draw(rng) for _ in over.rows]
        said: dict[str, Any] = {
            "state": [self.states[i].numpy() for i in drawn],
            "limit": [self.part.limit] * len(drawn),
        }
        return said | ({"task": self.tasks[drawn].tolist()} if self.run.spaces.task_low else {})

    def draw(self, rng: torch.Generator) -> int:
        """A snapshot of a class, both drawn evenly."""
        present = self.label.unique()
        own = (self.label == present[torch.randint(len(present), (), generator=rng)]).nonzero()[:, 0]
        return int(own[torch.randint(len(own), (), generator=rng)])

    def collect(self) -> None:
        """Let the teacher play, and sort the states that it goes through."""
        from frugal.control.env import environments

        run, part = self.run, self.part
        net = teacher_of(run, part.teacher)
        env = environments(run.env.make, 1, run.env.seed + ELSEWHERE, run.env.name, seconds=run.env.seconds)
        states, tasks, values = [], [], []
        for _ in range(part.episodes):
            env.begin(torch.arange(1))
            ended = False
            while not ended:
                with torch.no_grad():
                    a = net.deploy(net, env.obs)
                    v = value(net, env.obs, a)
                if env.length[0] % part.every == 0:
                    states.append(torch.from_numpy(env.snapshot(0)))
                    tasks.append(env.tasks if env.tasks is not None else torch.zeros(1, 0))
                    values.append(float(v))
                step = env.step(a)
                run.ledger.demonstrations += 1
                ended = bool(step.ended)
        env.close()
        self.states, self.tasks = torch.stack(states), torch.cat(tasks)
        self.label = classes(values, part.classes, run.env.seed)

    def state_dict(self) -> dict[str, Tensor]:
        return {"states": self.states, "tasks": self.tasks, "label": self.label}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.states, self.tasks, self.label = state["states"], state["tasks"], state["label"]


def teacher_of(run: Any, folder: str) -> Net:
    """The networks of the policy in a folder, those of the run itself without one."""
    from frugal.control.policy import load

    if not folder:
        return run.net  # type: ignore[no-any-return]
    teacher = load(folder)
    if teacher.spaces != run.spaces:
        raise BadTask(
            f"the teacher in {folder} was trained on {teacher.task}, whose spaces are others than those of "
            f"{run.env.name}; give one that was trained on that"
        )
    return teacher.net


def value(net: Net, obs: Tensor, a: Tensor) -> Tensor:
    """The critic's value [N] of obs [N,O], where a policy takes actions a [N,A]; the first critic's, of several."""
    z = net.encode(obs)
    return net.q(z, a)[0] if "critic" in net.groups else net.critic(net.weights, z)


def classes(values: list[float], k: int, seed: int) -> Tensor:
    """The cluster of each value among at most k, by k-means."""
    import numpy as np
    from scipy.cluster.vq import kmeans2

    x = np.array(values)[:, None]
    k = min(k, len(np.unique(x)))
    _, label = kmeans2(x, k, iter=100, minit="++", seed=np.random.default_rng(seed))
    return torch.from_numpy(label.astype(np.int64))


@patch
def snapshot_rl(
    teacher: str = "", share: float = 0.1, classes: int = 6, limit: int = 100, episodes: int = 10, every: int = 10
) -> Patch:
    """Begin from a teacher's states while `share` of the budget lasts; one class and no limit (0) is SnapshotRL."""
    if not 0 <= share <= 1 or min(classes, episodes, every) < 1 or limit < 0:
        raise BadRecipe(
            f"snapshot-rl(share={share}, classes={classes}, limit={limit}, episodes={episodes}, every={every}): give "
            "share in [0,1], limit 0 or more, and at least 1 of each of the others"
        )
    part = Snapshots(teacher, share, classes, limit, episodes, every)
    return Patch(
        add={"start.reset": part}, claims=("state that an episode begins from", "task of an episode"), domain="control"
    )
