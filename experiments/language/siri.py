"""Traces twice as long as needed, which plain rewards never shorten: half of the limit still holds the bare steps."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Do waves of the length limit squeeze out idle tokens, at no loss of accuracy?",
    arms=("grpo", "grpo+siri", "grpo+siri(cycles=1.0)", "grpo(max_tokens=0.5)"),
    task="overthink",
    samples=5120,
    expected="AIME24 from 28.2 to 40.4 with mean length from 12,333 to 7,093 after three cycles (1.5B)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="tokens_to_solve",
    larger_is_better=False,
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
