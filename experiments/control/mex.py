"""A reward that stands at the end of a long way, with a price for every action before: who is greedy stops moving."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does an optimistic critic find a sparse reward that TD3 does not?",
    arms=(
        "td3(hidden=(64, 64), warmup=1000)",
        "td3(hidden=(64, 64), warmup=1000)+mex",
        "td3(hidden=(64, 64), warmup=1000)+mex(baseline=False)",
    ),
    task="MountainCarContinuous-v0",
    samples=12_000,
    expected="above TD3 by a stable margin on sparse-reward HalfCheetah, Walker, Hopper and Ant",
    search={"lr": (3e-4, 1e-3), "noise": (0.1, 0.5)},
    rests_on="final",
    options={"evaluations": 20, "eval_episodes": 5},
)
