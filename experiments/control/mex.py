"""A pendulum that is paid only while it stands upright, where one episode in seven begins and none stays by itself."""

from frugal.evidence.experiment import Experiment

BASE = "td3(hidden=(64, 64), batch=128, warmup=1000)"

EXPERIMENT = Experiment(
    question="Does an optimistic critic reach TD3's return with fewer samples where reward is sparse?",
    arms=(BASE, f"{BASE}+mex", f"{BASE}+mex(baseline=False)"),
    task="experiments/control/_sparse.py:pendulum",
    samples=10_000,
    expected="above TD3 by a stable margin on sparse-reward HalfCheetah, Walker, Hopper and Ant",
    search={"lr": (3e-4, 1e-3), "noise": (0.1, 0.5)},
    options={"eval_episodes": 5},
)
