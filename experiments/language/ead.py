"""Chains are decided by their first step, and a model that samples one order again and again learns one order."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does sampling hot at first and cold later find the right order of evaluation with fewer samples?",
    arms=("grpo", "grpo+ead"),
    task="modchain",
    samples=5120,
    expected="better pass@16 and worst@16 than any fixed temperature, across models",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
