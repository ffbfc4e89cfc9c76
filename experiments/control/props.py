"""Rounds so short that what was done in them differs from the policy by chance; of the released code's tasks.

Who learns from two rounds has minibatches of twice the size, so that all arms make as many steps.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does collecting what is under-sampled, and learning from two rounds of it, save environment steps?",
    arms=(
        "control.ppo(steps=256)",
        "control.ppo(steps=256, batch=128)+props",
        "control.ppo(steps=256)+props(buffer=1)",
        "control.ppo(steps=256, batch=128)+props(epochs=0)",  # two rounds, collected as always
    ),
    task="CartPole-v1",
    samples=20_000,
    expected="lower sampling error throughout and fewer steps to a return than PPO, on MuJoCo and on discrete actions",
    search={"lr": (3e-4, 1e-3)},
    options={"eval_episodes": 5},
)
