"""The step that decides the order is open, the digits are forced; several steps a round, so that ratios leave one."""

from frugal.evidence.experiment import Experiment

BASE = "dapo(overlong=0, minibatches=4)"

EXPERIMENT = Experiment(
    question="Do temperature, advantage and clip range by each token's entropy save samples?",
    arms=(BASE, f"{BASE}+hapo"),
    task="modchain",
    samples=5120,
    expected="47.0 to 50.0 over DAPO on six mathematics sets with a 7B model, with higher entropy throughout",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
