"""Thoughts longer than twelve characters are cut: what fails is several times as long as an answer given at once.

So tokens with negative advantage are the many, as in the paper, and sixteen steps a round take ratios away from one.
The last two arms hold the bounds still: where they begin, and where DAPO's are.
"""

from frugal.evidence.experiment import Experiment

BASE = "grpo(prompts=32, minibatches=8, epochs=2, mean='token')"

EXPERIMENT = Experiment(
    question="Do clip bounds that balance positive and negative tokens end in higher accuracy on stale data?",
    arms=(
        BASE,
        f"{BASE}+bapo",
        f"{BASE}+bapo(target=0.5)",
        f"{BASE}+bapo(target=0.0)",
        f"{BASE}+bapo(target=0.0, low=0.8, high=1.28)",
    ),
    task="two-mode",
    samples=5120,
    expected="69.2 to 70.8 and 59.2 to 62.5 over GRPO on AIME 2024 and 2025 with a 7B model, with stable entropy",
    search={"lr": (1e-4, 2e-4, 4e-4)},
    rests_on="final",
    metric="sampled",
    options={"max_tokens": 12, "evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
