"""Words that are solved one time in forty at first, by letters of which each keeps its digit in every word."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do rewards for resembling past successes and for leaving past failures save samples where few are right?",
    arms=("grpo", "grpo+memory-r", "grpo+memory-r(explore=0.0)"),
    task="cipher(unknown=2)",
    samples=5120,
    expected="GSM8K from 37.2 to 40.7 (Llama-3.2-1B) and from 28.8 to 36.0 (Qwen2.5-0.5B) over GRPO",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
