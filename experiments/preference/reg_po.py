"""Pairs of short demonstrations say nothing about long responses, which DPO comes to favour.

At the start the term's slope is a tenth of DPO's; in the last arm, with the paper's eta = 0.005 times our beta = 0.1, a
hundredth.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does imitating what was preferred keep the true reward that DPO loses with more labels?",
    arms=("dpo", "dpo+reg-po(weight=5e-3)", "dpo+reg-po(weight=5e-4)"),
    task="rm-lab",
    samples=8192,
    expected="beats DPO and SFT on MT-Bench and AlpacaEval 2.0; the preferred log-probability does not fall (Zephyr)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="reward",
    options={"evaluations": 20, "eval_k": 2},
)
