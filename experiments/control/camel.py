"""A hill that only swinging back and forth climbs: noise hardly does, a rule of one line does, and not at its best."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does a box around a crude rule, let go of after half of the budget, find what TD3 does not?",
    arms=(
        "td3(hidden=(64, 64), warmup=1000)",
        "td3(hidden=(64, 64), warmup=1000)+camel(rule='pump')",
        "td3(hidden=(64, 64), warmup=1000)+camel(rule='brake')",  # a wrong rule
    ),
    task="MountainCarContinuous-v0",
    samples=12_000,
    expected="sooner than TD3 on Hopper-v4 and Ant-v4; no notable loss where the rule is poor, on Walker2d-v4",
    search={"lr": (3e-4, 1e-3), "noise": (0.1, 0.5)},
    rests_on="final",
    options={"evaluations": 20, "eval_episodes": 5},
)
