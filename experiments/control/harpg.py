"""Two trajectories a round: a gradient of so much noise that what earlier rounds saw is worth keeping.

The baseline's rate is of Adam, a step's size for each weight; that of the others is the length of the first step.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does a momentum that is corrected for moving weights reach REINFORCE's return with fewer samples?",
    arms=(
        "control.reinforce(envs=2)",
        "control.reinforce(envs=2)+harpg",
        "control.reinforce(envs=2)+harpg(variant='n-pg-igt')",
    ),
    task="CartPole-v1",
    samples=40_000,
    expected="O(eps^-2) and O(eps^-2.5) trajectories to a globally eps-optimal policy, against O(eps^-3)",
    search={"lr": (1e-3, 3e-3, 1e-2, 1e-1, 3e-1, 1.0)},
    options={"eval_episodes": 5},
)
