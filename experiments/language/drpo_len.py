"""Right responses of many lengths beside wrong ones: a penalty in GRPO makes the long right ones bad examples."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does length as a weight among right responses save more tokens at the same accuracy than a penalty?",
    arms=("grpo+grpo-lambda(share=1.0)", "grpo+drpo-len", "grpo+drpo-len(lam=inf)", "grpo"),
    task="overthink",
    samples=5120,
    expected="77% shorter at 1.1% accuracy loss on GSM8K; the best baseline loses 4.3% for 68% (1.5B)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="tokens_to_solve",
    larger_is_better=False,
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
