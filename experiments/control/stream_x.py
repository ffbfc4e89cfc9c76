"""One transition at a time and no buffer, where plain gradient steps overshoot: the stream barrier.

The baseline sees as little: actor-critic that steps after every transition. The last arm waits for five.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does actor-critic with bounded traces learn from single transitions what it does not learn without?",
    arms=("a2c(steps=1)", "a2c+stream-x", "a2c"),
    task="InvertedPendulum-v5",
    samples=30_000,
    expected="stream AC(lambda) learns on MuJoCo where AC(lambda) and batch methods with a buffer of one fail",
    rests_on="area",
    search={"lr": (1e-4, 3e-4, 1e-3, 3e-3)},
    options={"eval_episodes": 5},
)
