"""Locomotion from states, at a size at which a high replay ratio may cost the critic active units.

It did not in one trial of each arm: their share rose from 0.56 to 0.65 within 2500 samples at a ratio of 2, and from
0.52 to 0.67 within 4000 at 0.5. What is asked is then whether waiting, which takes fewer updates, costs more than a
quarter of what the high one gains.
Checks are of fewer episodes than the paper's, and less strict, because the budget holds fewer.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does a replay ratio that waits for the critic's active units do as well as the high one?",
    arms=(
        "sac(hidden=(64, 64), ratio=2.0, batch=64, warmup=500)",
        "sac(hidden=(64, 64), batch=64, warmup=500)+adaptive-rr(check=10, threshold=0.002)",
        "sac(hidden=(64, 64), ratio=0.5, batch=64, warmup=500)",
    ),
    task="Hopper-v5",
    samples=8_000,
    expected="matches or beats the best fixed replay ratio on six DeepMind Control tasks",
    search={"lr": (3e-4, 1e-3)},
    rests_on="area",
    margin=0.25,
    options={"eval_episodes": 5},
)
