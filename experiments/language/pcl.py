"""Sums of 1 to 6 digits: most groups are all right or all wrong, and the digits of the prompt tell which."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does a value model that foresees which prompts are solved half of the time save samples?",
    arms=("grpo", "grpo+pcl", "grpo+online-difficulty"),
    task="addtrace",
    samples=5120,
    expected="the best accuracy or clearly less time to equal accuracy, on MATH and DeepScaleR with 1.7B to 8B models",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
