"""Six tenths of the preferences go round in a circle, which no reward explains: what is best for one loses to others.

The Nash policy of the game with tau = 0.1 has an exploitability of 0.09, the start of 0.16; eta is three times tau, as
in the paper. DPO's beta is 0.4, with which what it tends to is as far from the start (near an even chance its sigmoid
has a slope of a quarter). The last arm is online IPO, whose game is the same.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does mirror descent by self-play end with a policy that is beaten less?",
    arms=(
        "online-dpo(epochs=4, beta=0.4)",
        "online-dpo(epochs=4)+iterative-nash(eta=0.3, tau=0.1)",
        "online-dpo(epochs=4, loss='ipo')",
    ),
    task="pairs(cyclic=60)",
    samples=8192,
    expected="41.5% length-controlled wins on AlpacaEval 2.0, above iterative DPO with a Bradley-Terry reward (8B)",
    search={"lr": (1e-4, 2e-4, 5e-4)},
    rests_on="final",
    metric="exploitability",
    larger_is_better=False,
)
