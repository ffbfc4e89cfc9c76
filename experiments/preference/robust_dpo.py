"""Three labels in ten are wrong, and four passes over a thousand pairs leave time to learn them by heart.

The last arm is told that one label in ten is wrong.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does correcting the loss for a known share of wrong labels save labels?",
    arms=("dpo", "dpo+robust-dpo(flips=0.3)", "dpo+robust-dpo(flips=0.1)"),
    task="rm-lab(flips=30, train=1024)",
    samples=4096,
    expected="keeps its reward with up to 40% flipped labels, where DPO and conservative DPO degrade (GPT-2-large)",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    metric="reward",
)
