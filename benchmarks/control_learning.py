"""Bases learn as well as Stable-Baselines3's with the same budget: curves of both over paired seeds, one PNG, one JSON.

    python benchmarks/control_learning.py                                  # all rows, 5 seeds; hours on two cores
    python benchmarks/control_learning.py --only dqn-cartpole --seeds 2
    python benchmarks/control_learning.py --out results/benchmarks/control_learning.json

Rows are added to those that the file of results holds already; one of other versions or seeds is refused.

Both sides are given the same networks, rates, batches and exploration, and are evaluated at the same points: the mean
return of 10 episodes of the policy's mode, in environments of its own. A row says where a setting has no counterpart.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

POINTS = 20  # evaluations after the first
EPISODES = 10


@dataclass(frozen=True)
class Row:
    """One algorithm on one task, in both libraries' words."""

    recipe: str
    task: str
    samples: int
    algorithm: str
    options: dict[str, Any]


def _net(*sizes: int) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": list(sizes)}}


def _dqn(task: str, samples: int, lr: float, share: float) -> Row:
    return Row(
        f"dqn(hidden=(256, 256), double=False, lr={lr}, batch=64, warmup=1000, capacity=100000, ratio=0.5, every=8, "
        f"track=20, epsilon=(1.0, 0.05, {share}))",
        task,
        samples,
        "DQN",
        {
            "learning_rate": lr,
            "batch_size": 64,
            "learning_starts": 1000,
            "buffer_size": 100_000,
            "train_freq": 8,
            "gradient_steps": 4,
            "target_update_interval": 40,  # in steps, of which half are updates
            "exploration_fraction": share,
            **_net(256, 256),
        },
    )


ROWS = {
    "dqn-cartpole": _dqn("CartPole-v1", 50_000, 1e-3, 0.16),
    "dqn-acrobot": _dqn("Acrobot-v1", 50_000, 6e-4, 0.12),
    "ppo-cartpole": Row("control.ppo", "CartPole-v1", 50_000, "PPO", {}),
    "ppo-pendulum": Row(  # theirs acts in [-2, 2], ours in [-1, 1], so that the first spread differs by a factor
        "control.ppo(envs=4, steps=1024, gamma=0.9, lr=1e-3)",
        "Pendulum-v1",
        100_000,
        "PPO",
        {"n_steps": 1024, "gamma": 0.9, "learning_rate": 1e-3, "n_envs": 4},
    ),
    "sac-pendulum": Row("sac(lr=1e-3)", "Pendulum-v1", 10_000, "SAC", {"learning_rate": 1e-3, **_net(256, 256)}),
    "td3-pendulum": Row(
        "td3(lr=1e-3, batch=256)",
        "Pendulum-v1",
        10_000,
        "TD3",
        {"learning_rate": 1e-3, "noise": 0.1, **_net(256, 256)},
    ),
    "sac-cheetah": Row("sac", "HalfCheetah-v5", 30_000, "SAC", _net(256, 256)),
    "td3-hopper": Row(
        "td3(lr=3e-4, warmup=1000)",
        "Hopper-v5",
        30_000,
        "TD3",
        {"learning_rate": 3e-4, "learning_starts": 1000, "noise": 0.1, **_net(256, 256)},
    ),
}


def ours(row: Row, seed: int) -> list[float]:
    """Returns at the points of the grid."""
    import frugal

    options: dict[str, Any] = {"evaluations": POINTS, "eval_episodes": EPISODES, "threads": 1}
    run = frugal.run(row.recipe, row.task, samples=row.samples, seed=seed, **options)
    lines = [line for line in run.curve if line["kind"] == "evaluation"]
    import numpy as np

    grid = np.linspace(0, row.samples, POINTS + 1)
    return np.interp(grid, [line["samples"] for line in lines], [line["return"] for line in lines]).tolist()


def theirs(row: Row, seed: int) -> list[float]:
    """The same of Stable-Baselines3."""
    import numpy as np
    import stable_baselines3 as sb3
    import torch
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.noise import NormalActionNoise

    torch.set_num_threads(1)
    options = dict(row.options)
    n = options.pop("n_envs", 1)
    env, other = make_vec_env(row.task, n, seed=seed), make_vec_env(row.task, 1, seed=1000 + seed)
    if "noise" in options:
        size = env.action_space.shape
        options["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, options.pop("noise")))
    model = getattr(sb3, row.algorithm)("MlpPolicy", env, seed=seed, device="cpu", **options)
    first = float(evaluate_policy(model, other, EPISODES)[0])
    steps, found = [0], [first]

    class Keep(EvalCallback):
        def _on_step(self) -> bool:
            go_on = super()._on_step()
            if self.n_calls % self.eval_freq == 0:
                steps.append(self.num_timesteps), found.append(float(self.last_mean_reward))
            return go_on

    keep = Keep(other, eval_freq=row.samples // POINTS // n, n_eval_episodes=EPISODES, verbose=0, warn=False)
    model.learn(row.samples, callback=keep)
    grid = np.linspace(0, row.samples, POINTS + 1)
    return np.interp(grid, steps, found).tolist()


def one(work: tuple[str, str, int]) -> list[float]:
    name, side, seed = work
    return (ours if side == "frugal" else theirs)(ROWS[name], seed)


def draw(result: dict[str, Any], path: Path) -> None:
    """Mean and every seed of both, a panel a row."""
    import numpy as np
    from matplotlib.figure import Figure

    rows = result["rows"]
    columns = min(len(rows), 4)
    height = -(-len(rows) // columns)
    figure = Figure(figsize=(4 * columns, 3 * height), layout="constrained")
    for axes, (name, row) in zip(np.ravel(figure.subplots(height, columns, squeeze=False)), rows.items(), strict=False):
        for i, side in enumerate(("frugal", "sb3")):
            for curve in row[side]:
                axes.plot(row["grid"], curve, color=f"C{i}", alpha=0.3, linewidth=0.8)
            label = {"frugal": "Frugal", "sb3": "Stable-Baselines3"}[side]
            axes.plot(row["grid"], np.mean(row[side], 0), color=f"C{i}", linewidth=2.2, label=label)
        axes.set(title=name, xlabel="environment steps", ylabel="return in evaluation")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("runs/control_learning.json"))
    given = parser.parse_args()
    import numpy as np

    from frugal.evidence import statistics

    given.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "versions": {name: version(name) for name in ("frugal-rl", "stable-baselines3", "gymnasium", "torch")},
        "seeds": given.seeds,
        "rows": {},
    }
    if given.out.exists():  # rows of earlier calls stay
        earlier = json.loads(given.out.read_text())
        if {**earlier, "rows": {}} != result:
            parser.error(f"{given.out} holds results of other versions or seeds; give another --out")
        result = earlier
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for name in given.only:
            work = [(name, side, seed) for seed in range(given.seeds) for side in ("frugal", "sb3")]
            curves = list(pool.map(one, work))
            row: dict[str, Any] = {
                side: [c for c, w in zip(curves, work, strict=True) if w[1] == side] for side in ("frugal", "sb3")
            }
            row["grid"] = np.linspace(0, ROWS[name].samples, POINTS + 1).tolist()
            for what in ("final", "area"):
                x, y = (
                    statistics.final(np.array(row[side]))
                    if what == "final"
                    else statistics.area(np.array(row["grid"]), np.array(row[side]))
                    for side in ("frugal", "sb3")
                )
                difference, *interval = statistics.welch_interval(x, y)
                row[what] = {
                    "frugal": float(x.mean()),
                    "sb3": float(y.mean()),
                    "difference": difference,
                    "interval": interval,
                }
                print(
                    f"{name}: {what} {x.mean():.1f}, Stable-Baselines3 {y.mean():.1f}, difference {difference:+.1f} "
                    f"[{interval[0]:.1f}, {interval[1]:.1f}]",
                    flush=True,
                )
            result["rows"][name] = row | {"recipe": ROWS[name].recipe, "task": ROWS[name].task}
            given.out.write_text(json.dumps(result, indent=1))
            draw(result, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
