"""The effect of a decision is known, and the demand that follows it is large and independent.

The paper's agents learn from returns to the end of the episode, which `lam=1.0` is.
"""

from frugal.evidence.experiment import Experiment

BASE = "control.ppo(envs=4, steps=100)"

EXPERIMENT = Experiment(
    question="Does a critic on the state after the decision reach PPO's return with fewer samples?",
    arms=(BASE, f"{BASE}+pdppo", f"{BASE}+pdppo(rule='q')"),
    task="frugal/LotSizing-v0",
    samples=40_000,
    expected="up to nearly twice PPO's maximum reward on stochastic lot-sizing, with fewer episodes",
    search={"lr": (3e-4, 1e-3), "lam": (0.95, 1.0)},
)
