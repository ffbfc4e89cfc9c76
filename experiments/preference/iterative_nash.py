"""Six tenths of the preferences go round in a circle, which no reward explains: what is best for one loses to others.

The KL weight tau is the base's beta, and eta three times as much, as in the paper. The Nash policy of that game has an
exploitability of 0.09, the start of 0.16. The last arm is online IPO, whose game is the same. How many prompts a round
has is searched too, since with INPO a round is an iteration.
"""

from frugal.evidence.experiment import Experiment

BASE = "online-dpo(epochs=8)"

EXPERIMENT = Experiment(
    question="Does mirror descent by self-play end with a policy that is beaten less?",
    arms=(BASE, f"{BASE}+iterative-nash(eta=0.3, tau=0.1)", "online-dpo(epochs=8, loss='ipo')"),
    task="pairs(cyclic=60)",
    samples=4096,
    expected="41.5% length-controlled wins on AlpacaEval 2.0, above iterative DPO with a Bradley-Terry reward (8B)",
    search={"lr": (2e-4, 5e-4, 1e-3), "prompts": (64, 256)},
    rests_on="final",
    metric="exploitability",
    larger_is_better=False,
)
