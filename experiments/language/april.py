"""Sums of which most are short: a round waits for the one of six digits that is in it, while the others are done."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does carrying unfinished responses over save decoding steps to the same accuracy, stale as they are?",
    arms=("grpo", "grpo+april", "grpo(prompts=32, minibatches=2)"),  # the last: as many at once, and all waited for
    task="addtrace(tail=1)",
    samples=5120,
    expected="22.5% higher rollout throughput on average (at most 44%) and 2.1% higher final accuracy",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
    cost="steps",
)
