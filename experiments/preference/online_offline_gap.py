"""A reward model of the same labels is right near the start only, and fixed pairs are from there: the study's table.

The loss is IPO's, or the likelihood of the winner, in the last two arms. Beside the reward at the end stand KL and the
accuracy on held-out pairs.
"""

from frugal.evidence.experiment import Experiment

ONLINE, OFFLINE = "online-dpo(loss='ipo')+online-offline-gap(labels=4096{})", "dpo(loss='ipo')"

EXPERIMENT = Experiment(
    question="Is one loss better on the policy's own samples, labelled by a reward model, than on labelled pairs?",
    arms=(
        OFFLINE,
        ONLINE.format(""),
        ONLINE.format(", shuffled=True"),
        ONLINE.format(", shuffled=True, last=0.25"),
        "dpo+online-offline-gap(labels=0, clone=True)",
        "online-dpo+online-offline-gap(clone=True)",
    ),
    task="rm-lab",
    samples=4096,
    expected="online IPO ahead at equal KL, by 5 to 15 points of win rate at the peak, and worse as a classifier",
    search={"lr": (1e-4, 4e-4, 1.6e-3)},
    rests_on="final",
    metric="reward",
    options={"evaluations": 20},
)
