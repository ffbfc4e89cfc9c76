"""Short sums are always right, long ones seldom: many groups have hardly a spread, and responses differ in length.

The table of the study: no baseline, the group's mean, and that over its own or the batch's spread, beside the mean of
the loss over rollouts and over tokens; and DAPO.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do the batch's spread and the token mean, alone and together, save samples against GRPO and DAPO?",
    arms=(
        "grpo",
        "grpo+lite-ppo",
        "grpo+lite-ppo(token_mean=False)",
        "grpo+lite-ppo(batch_std=False)",
        "dr-grpo(mean='rollout')",
        "dr-grpo(mean='token')",
        "reinforce(mean='rollout')",
        "reinforce(mean='token')",
        "dapo",
    ),
    task="addtrace",
    samples=5120,
    expected="above GRPO and DAPO on six mathematics sets with base models of 4B and 8B",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
