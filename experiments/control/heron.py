"""Two factors, speed and effort, whose weights the environment's authors chose; here only their order is given.

Order and margins are those of the released code for this robot. As good is what loses less than a quarter of the gain.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Is a reward learned from a ranking of the factors as good as the environment's own?",
    arms=(
        "sac(hidden=(64, 64), warmup=1000)",
        "sac(hidden=(64, 64), warmup=1000)+heron(factors=('reward_forward', 'reward_ctrl'), margins=(0.5, 0.1))",
    ),
    task="HalfCheetah-v5",
    samples=15_000,
    expected="level with the hand-made rewards of classic control and robots, or above them",
    search={"lr": (3e-4, 1e-3)},
    rests_on="final",
    margin=0.25,
    options={"evaluations": 20, "eval_episodes": 5},
)
