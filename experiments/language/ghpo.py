"""Words of 7 or 8 unknown letters, solved once in thousands of times, and once in eight with 3/4 of the solution."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do beginnings of solutions, whose retries are charged, bring within reach what GRPO never solves?",
    arms=("grpo", "grpo+ghpo", "grpo+scaf-grpo"),
    task="cipher(unknown=7)",
    samples=5120,
    expected="about 5% more on average than GRPO and curriculum baselines on six mathematics sets with 7B models",
    rests_on="final",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
