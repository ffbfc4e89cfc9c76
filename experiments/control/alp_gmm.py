"""CartPole whose pole and force are of any size: under the best of 16 linear controllers 59% of the range ends within
100 steps (a short pole, a strong push), and 38% goes on for more than 400.

Evaluation draws tasks evenly.
"""

from frugal.evidence.experiment import Experiment

BASE = "control.ppo(envs=8, steps=64)"

EXPERIMENT = Experiment(
    question="Are tasks chosen by learning progress ahead of even ones on average over the run?",
    arms=(BASE, f"{BASE}+alp-gmm"),
    task="frugal/CartPole-v0(length=(0.01, 0.5), force_mag=(0.1, 400.0))",
    samples=60_000,
    expected="more test tasks mastered by SAC on BipedalWalker's stump and hexagon tracks than with random tasks",
    search={"lr": (3e-4, 1e-3, 3e-3)},
    rests_on="area",
    options={"evaluations": 20, "eval_episodes": 50},
)
