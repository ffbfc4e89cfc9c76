"""Three labels in ten are wrong, and four passes over a thousand pairs leave time to learn them by heart.

Beta is so large that a label's pull ends within the run: with a small one all losses here are the same but for a
factor, which Adam takes out. What DPO tends to with three labels in ten turned round is 0.4 times as far from the start
as the corrected loss with the same beta, hence its beta is searched too. The last arm is told that one in ten is wrong.
"""

from frugal.evidence.experiment import Experiment

BASE = "dpo"

EXPERIMENT = Experiment(
    question="Does correcting the loss for a known share of wrong labels end with more reward?",
    arms=(BASE, f"{BASE}+robust-dpo(flips=0.3)", f"{BASE}+robust-dpo(flips=0.1)"),
    task="rm-lab(flips=30, train=1024)",
    samples=4096,
    expected="keeps its reward with up to 40% flipped labels, where DPO and conservative DPO degrade (GPT-2-large)",
    search={"lr": (1e-4, 2e-4, 4e-4), "beta": (0.4, 1.0)},
    rests_on="final",
    metric="reward",
    options={"evaluations": 20, "eval_k": 2},
)
