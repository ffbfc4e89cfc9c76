"""Long sums start all wrong: groups from which plain GRPO learns nothing."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do groups without a right response, which an imagined one gives a spread, save samples?",
    arms=("grpo", "grpo+ngrpo"),
    task="addtrace",
    samples=5120,
    expected="higher pass@k than GRPO, DAPO and PSR-NSR on mathematics with a 7B model",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
