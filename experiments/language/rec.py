"""Thirty-two steps on each round, all but the first with data of an older policy.

At a rate of 4e-4 a tenth of the ratios then leave GRPO's range, and its accuracy goes up and down.
"""

from frugal.evidence.experiment import Experiment

BASE = "grpo(prompts=32, minibatches=8, epochs=4, mean='token')"

EXPERIMENT = Experiment(
    question="On stale data, does a wide one-sided clip without importance weights learn faster than GRPO's?",
    arms=(
        BASE,
        f"{BASE}+rec(low=0.6, high=2.0)",
        f"{BASE}+rec",
        f"{BASE}+rec(variant='reinforce')",
        f"{BASE}+rec(variant='asymre')",
        f"{BASE}+rec(variant='weight')",
    ),
    task="modchain",
    samples=5120,
    expected="as accurate as GRPO with 0.2, faster with the wide range; plain REINFORCE collapses; 1.5B to 8B models",
    search={"lr": (1e-4, 2e-4, 4e-4)},
)
