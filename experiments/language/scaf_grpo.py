"""Words of 7 or 8 unknown letters, solved once in thousands of times, and once in eight with 3/4 of the solution.

Seeds 0 to 7, rates up to 8e-4 and the final accuracy as measure came first and showed nothing, since GRPO rises late at
the highest rate; these are new seeds, and the samples to the target (docs/log.md).
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does the least helped success of four charged retries bring within reach what GRPO never solves?",
    arms=("grpo", "grpo+scaf-grpo", "grpo+ghpo"),
    task="cipher(unknown=7)",
    samples=5120,
    expected="AIME24 pass@1 44.3% higher than GRPO, relative, with 7B",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
    seeds=range(8, 16),
)
