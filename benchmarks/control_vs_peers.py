"""Environment steps and updates a second of Frugal, Stable-Baselines3 and sbx (JAX), and what this machine could do.

    python benchmarks/control_vs_peers.py                            # all rows; about 40 minutes on two cores
    python benchmarks/control_vs_peers.py --only sac-1 --repeats 2
    python benchmarks/control_vs_peers.py --out results/benchmarks/control_vs_peers.json

All train the same networks with the same batch, update ratio and threads (processors, for JAX), each with its own code
from the environment to the optimiser. A measurement is a process of its own; it warms up, which for JAX includes
compiling, and times the steps that follow. Measurements of the libraries alternate; figures are medians. Two update
ratios of SAC, since at 1 the environment and Python count, and at 20 the arithmetic does.

Beside them, for SAC, stands the update alone, written out in torch with nothing around it: functional layers, one fused
Adam over all weights, no environment, buffer or checks.

The floor of a step is the environment alone, plus for every update the arithmetic of its matrix products at the rate of
a product of 1024 x 1024 matrices. Nothing is computed twice in it: the critics' weights need no gradient while the
actor learns, nor do first layers need one of observations.

Needs the extras mujoco and dev, and pip install sbx-rl for its rows, which are left out without it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

LIBRARIES = {"frugal": "frugal", "sb3": "stable_baselines3", "sbx": "sbx", "torch": "torch"}


@dataclass(frozen=True)
class Row:
    """What is trained on what."""

    algorithm: str
    task: str
    ratio: int  # updates a step
    warm: int  # steps that are not timed
    steps: int  # that are
    hidden: tuple[int, ...]
    batch: int


ROWS = {
    "sac-1": Row("sac", "HalfCheetah-v5", 1, 400, 1500, (256, 256), 256),
    "sac-20": Row("sac", "HalfCheetah-v5", 20, 150, 100, (256, 256), 256),
    "dqn": Row("dqn", "CartPole-v1", 1, 1500, 5000, (64, 64), 64),
    "ppo": Row("ppo", "CartPole-v1", 0, 2048, 4 * 2048, (64, 64), 64),
}


class Meter:
    """The time between the first step after the warm-up and the last one."""

    def __init__(self, row: Row):
        self.row, self.seen = row, list[tuple[int, float]]()

    def __call__(self, steps: int) -> None:
        if steps >= self.row.warm:
            self.seen.append((steps, time.perf_counter()))

    def rates(self) -> dict[str, float]:
        (first, began), (last, ended) = self.seen[0], self.seen[-1]
        per_second = (last - first) / (ended - began)
        return {"steps": per_second, "updates": per_second * self.row.ratio}


def frugal(row: Row, meter: Meter) -> None:
    import frugal

    settings = f"hidden={row.hidden}, batch={row.batch}"
    text = {
        "sac": f"sac({settings}, ratio={float(row.ratio)})",
        "dqn": f"dqn({settings}, ratio={float(row.ratio)}, every=1, warmup=1000)",
        "ppo": f"control.ppo({settings})",
    }[row.algorithm]

    def reporter(run: Any, line: dict[str, Any]) -> None:
        if line["kind"] == "train":
            meter(line["samples"])

    frugal.run(text, row.task, samples=row.warm + row.steps, evaluations=1, eval_episodes=1, reporter=reporter)


def peer(library: str, row: Row, meter: Meter) -> None:
    kind = getattr(importlib.import_module(LIBRARIES[library]), row.algorithm.upper())
    shape: Any = list(row.hidden)
    more: dict[str, Any] = {"policy_kwargs": {"net_arch": shape}, "batch_size": row.batch}
    if row.algorithm != "ppo":
        more |= {"train_freq": 1, "gradient_steps": row.ratio}
        more |= {"learning_starts": 1000, "target_update_interval": 250} if row.algorithm == "dqn" else {}
    if library == "sb3":
        more["device"] = "cpu"
    model = kind("MlpPolicy", row.task, seed=0, **more)

    def callback(local: dict[str, Any], _: dict[str, Any]) -> bool:
        steps = model.num_timesteps
        if row.algorithm != "ppo" or steps % 2048 == 1:  # PPO learns between two rounds of 2048
            meter(steps)
        return True

    extra = 1 if row.algorithm == "ppo" else 0  # its last update is over at the step after it
    model.learn(row.warm + row.steps + extra, callback=callback)


def written_out(row: Row, meter: Meter) -> None:
    """One update of SAC after another on random data, of the sizes of the row's environment."""
    import math

    import gymnasium
    import torch
    from torch.nn.functional import linear, mse_loss, softplus
    from torch.optim.adam import adam

    env: Any = gymnasium.make(row.task)
    O, A = env.observation_space.shape[0], env.action_space.shape[0]
    data = torch.randn(100_000, 2 * O + A + 2)

    def network(inputs: int, outputs: int) -> list[torch.Tensor]:
        shapes = [shape for i, o in itertools.pairwise((inputs, *row.hidden, outputs)) for shape in ((o, i), (o,))]
        return [torch.randn(shape).div_(math.sqrt(shape[-1])).requires_grad_() for shape in shapes]

    def call(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        for i in range(0, len(weights) - 2, 2):
            x = linear(x, *weights[i : i + 2]).relu_()
        return linear(x, *weights[-2:])

    def act(obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = call(actor, obs).chunk(2, 1)
        noise, log_std = torch.randn_like(mean), log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        squash = 2 * (math.log(2) - u - softplus(-2 * u))
        return u.tanh(), (-(0.5 * noise.square() + log_std) - squash).sum(1) - 0.5 * math.log(2 * math.pi) * A

    def least(of: list[list[torch.Tensor]], obs: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        x = torch.cat([obs, a], 1)
        return torch.minimum(call(of[0], x), call(of[1], x))[:, 0]

    actor, critics = network(O, 2 * A), [network(O + A, 1) for _ in range(2)]
    targets = [[w.detach().clone() for w in critic] for critic in critics]
    log_alpha = torch.zeros(1, requires_grad=True)
    weights = [*actor, *critics[0], *critics[1], log_alpha]
    plain, tracked = [w.detach() for w in weights], [*targets[0], *targets[1]]
    mean, square = ([torch.zeros_like(w) for w in plain] for _ in range(2))
    steps = [torch.zeros(()) for _ in plain]
    options: Any = {"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "lr": 3e-4, "weight_decay": 0.0, "eps": 1e-8}
    for update in range(row.ratio * (row.warm + row.steps) + 1):
        if update % row.ratio == 0:
            meter(update // row.ratio)
        obs, a, reward, after, over = data[torch.randint(len(data), (row.batch,))].split((O, A, 1, O, 1), 1)
        with torch.no_grad():
            next_a, logp = act(after)
            v = least(targets, after, next_a) - log_alpha.exp() * logp
            y = reward[:, 0] + 0.99 * (over[:, 0] < 2) * v
        x = torch.cat([obs, a], 1)
        loss = sum(mse_loss(call(critic, x)[:, 0], y) for critic in critics)
        gradients = list(torch.autograd.grad(loss, weights[len(actor) : -1]))
        new_a, logp = act(obs)
        loss = log_alpha.detach().exp() * logp - least(critics, obs, new_a) - log_alpha * (logp.detach() - A)
        *own, temperature = torch.autograd.grad(loss.mean(), [*actor, log_alpha])
        adam(plain, [*own, *gradients, temperature], mean, square, [], steps, fused=True, maximize=False, **options)
        torch._foreach_lerp_(tracked, plain[len(actor) : -1], 0.005)


def measure(name: str, library: str, threads: int) -> dict[str, float]:
    """In a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if library != "sbx":
        import torch

        torch.set_num_threads(threads)
    row = ROWS[name]
    meter = Meter(row)
    {"frugal": frugal, "torch": written_out}.get(library, partial(peer, library))(row, meter)
    return meter.rates()


# -- the floor --------------------------------------------------------------------------------------------------------


def products(B: int, sizes: tuple[int, ...]) -> tuple[float, float]:
    """Operations of one forward pass of a perceptron over B rows, and those of its first layer."""
    layers = [2.0 * B * a * b for a, b in itertools.pairwise(sizes)]
    return sum(layers), layers[0]


def operations(row: Row, observation: int, actions: int) -> float:
    """Of the matrix products of one update of SAC."""
    critic, first = products(row.batch, (observation + actions, *row.hidden, 1))
    policy, policy_first = products(row.batch, (observation, *row.hidden, 2 * actions))
    target = policy + 2 * critic
    critics = 2 * (critic + critic + critic - first)  # forward, weights, inputs of all layers but the first
    through = first * actions / (observation + actions)  # the first layer's part of the actions
    actor = policy + 2 * critic + 2 * (critic - first + through) + policy + policy - policy_first
    return target + critics + actor


def floor(row: Row, threads: int) -> dict[str, float]:
    """Steps a second if nothing but environment and matrix products took time."""
    import gymnasium
    import torch

    torch.set_num_threads(threads)
    env = gymnasium.make(row.task)
    env.action_space.seed(0)
    env.reset(seed=0)
    drawn = [env.action_space.sample() for _ in range(2000)]
    began = time.perf_counter()
    for a in drawn:
        _, _, terminated, truncated, _ = env.step(a)
        if terminated or truncated:
            env.reset()
    seconds = (time.perf_counter() - began) / len(drawn)
    if row.algorithm == "sac":
        x = torch.randn(1024, 1024)
        times = []
        for _ in range(30):
            began = time.perf_counter()
            x @ x
            times.append(time.perf_counter() - began)
        rate = 2 * 1024**3 / statistics.median(times)
        work = operations(row, env.observation_space.shape[0], env.action_space.shape[0])  # type: ignore[index]
        seconds += row.ratio * work / rate
    return {"steps": 1 / seconds, "updates": row.ratio / seconds}


# -- side by side -----------------------------------------------------------------------------------------------------


def alone(*work: Any) -> dict[str, float]:
    """One measurement in a new process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(work[-1]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--work", json.dumps(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{work} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measure(*json.loads(given.work))))
        return
    libraries = [name for name, package in LIBRARIES.items() if importlib.util.find_spec(package)]
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": given.threads,
        "versions": {name: importlib.metadata.version(_package(name)) for name in libraries},
        "rows": {},
    }
    for name in given.only:
        row = ROWS[name]
        several = [library for library in libraries if library != "torch" or row.algorithm == "sac"]
        found: dict[str, list[dict[str, float]]] = {library: [] for library in several}
        for _ in range(given.repeats):
            for library in several:
                found[library].append(alone(name, library, given.threads))
        rates = {"floor": floor(row, given.threads)} | {
            library: {what: statistics.median(one[what] for one in got) for what in ("steps", "updates")}
            for library, got in found.items()
        }
        result["rows"][name] = {"rates": rates, "measurements": found}
        print(f"{name}: {row.algorithm} on {row.task}, ratio {row.ratio}")
        for library, rate in rates.items():
            print(
                f"  {library:<8}{rate['steps']:>9.1f} steps/s {rate['updates']:>9.1f} updates/s "
                f"{rates['frugal']['steps'] / rate['steps']:>7.2f} of it"
            )
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=1))


def _package(library: str) -> str:
    return {"frugal": "frugal-rl", "sb3": "stable-baselines3", "sbx": "sbx-rl"}[library]


if __name__ == "__main__":
    main()
