"""CartPole with a pole of any length, a task of the paper: what is trained on one length fails on lengths far from it.

The baseline trains one policy, which sees the length, on all lengths: the paper's multi-task training.
"""

from frugal.evidence.experiment import Experiment

BASE = "control.ppo(envs=8, steps=64)"

EXPERIMENT = Experiment(
    question="Do five well-chosen lengths reach the return of training on all lengths with fewer samples?",
    arms=(BASE, f"{BASE}+mbtl"),
    task="frugal/CartPole-v0(length=(0.05, 5.0))",
    samples=100_000,
    expected="up to 50 times fewer samples than multi-task or independent training on traffic and control tasks",
    search={"lr": (3e-4, 1e-3, 3e-3)},
    options={"eval_episodes": 50},
)
