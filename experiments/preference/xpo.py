"""Every wanted letter two or three times is best, and the start policy hardly ever says that.

The slope of the term is a twentieth of the largest that DPO's loss has, beta = 0.1; the baseline compares with the
start policy's responses too, without the term. Beside them: a tenth of it, and two own responses a pair. Every arm
learns from each round alone.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does moving away from the start policy's responses save labels?",
    arms=(
        "online-dpo(prompts=16)+xpo(alpha=0.0, all_rounds=False)",
        "online-dpo(prompts=16)+xpo(alpha=5e-3, all_rounds=False)",
        "online-dpo(prompts=16)+xpo(alpha=5e-4, all_rounds=False)",
        "online-dpo(prompts=16)",
    ),
    task="rm-lab",
    samples=2048,
    expected="reaches or passes iterative DPO with fewer preference prompts (Llama-3-8B, called preliminary)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    metric="reward",
    options={"eval_k": 2},
)
