"""Short chains need no thought and long ones do: a price on length for all groups tempts to give up thought for all."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does the price on length in the most often right groups alone save tokens without the loss of accuracy?",
    arms=("grpo+grpo-lambda(share=1.0)", "grpo+grpo-lambda", "grpo"),
    task="overthink",
    samples=5120,
    expected="1.48% higher average accuracy with 47.3% shorter reasoning, where a uniform length penalty collapses",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="tokens_to_solve",
    larger_is_better=False,
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
