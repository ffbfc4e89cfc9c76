"""Sums of 1 to 6 digits: most groups are all right or all wrong, and teach nothing."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do groups of middling difficulty save samples, although the rejected ones are charged?",
    arms=("grpo", "grpo+online-difficulty"),
    task="addtrace",
    samples=5120,
    expected="about 10% more on AIME and 4% on average than GRPO with 3B, in 60% of the training time",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
