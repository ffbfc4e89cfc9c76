"""Three labels in ten are wrong, and four passes over a thousand pairs leave time to learn them by heart.

Beta is 1, so that a label's pull ends within the run: with a small one all losses here are the same but for a factor,
which Adam takes out. The third arm is told that one label in ten is wrong; the last has a smaller beta.
"""

from frugal.evidence.experiment import Experiment

BASE = "dpo(beta=1.0)"

EXPERIMENT = Experiment(
    question="Does correcting the loss for a known share of wrong labels save labels?",
    arms=(BASE, f"{BASE}+robust-dpo(flips=0.3)", f"{BASE}+robust-dpo(flips=0.1)", "dpo(beta=0.4)"),
    task="rm-lab(flips=30, train=1024)",
    samples=4096,
    expected="keeps its reward with up to 40% flipped labels, where DPO and conservative DPO degrade (GPT-2-large)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    metric="reward",
)
