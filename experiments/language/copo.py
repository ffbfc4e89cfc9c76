"""Sums of 1 to 6 digits: short ones come out all right, long ones all wrong, and neither group teaches GRPO."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does comparing the prompts of a batch, where a group's answers agree, save samples?",
    arms=("grpo", "grpo+copo", "grpo+ngrpo"),
    task="addtrace",
    samples=5120,
    expected="MATH-500 from 63.6 to 65.8 with 7B and from 55.8 to 60.4 with 3B, over GRPO",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
