"""Two passes over a round at rates up to four times the usual one: steps that overshoot, for the mask to stop."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does masking the tokens with the largest predicted shift make aggressive updates pay?",
    arms=("grpo(epochs=2)", "grpo(epochs=2)+capo(policy=1e-2, objective=1e-1)"),
    task="modchain",
    samples=5120,
    expected="up to 30 times fewer samples than standard GRPO, which collapses in the aggressive regime",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
