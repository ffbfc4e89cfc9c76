"""Short sums are always right, long ones always wrong, and only carries are uncertain: little of a round teaches."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do updates on the rollouts and tokens that say most, a sixth of them, save samples?",
    arms=("grpo", "grpo+d3s"),
    task="addtrace",
    samples=5120,
    expected="GRPO's accuracy in half of its steps, training under 20% of the tokens of a 7B model",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
