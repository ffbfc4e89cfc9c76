"""Every prompt's rewards are shifted by a number of its own, which is larger than what its responses differ by.

No comparison of two responses could have shown that number, so that a reward model may have any.
"""

from frugal.evidence.experiment import Experiment

RLHF = "rlhf(reward='experiments/preference/_rewards.py:shifted', prompts={})"

EXPERIMENT = Experiment(
    question="Does the difference of two rewards end better where the reward of one says mostly which prompt it was?",
    arms=(
        RLHF.format(128),
        RLHF.format(64) + "+p3o",
        RLHF.format(64) + "+p3o(joint=True)",
        RLHF.format(64).replace(")", ", baseline='group', group=2, epochs=2)"),
    ),
    task="rm-lab",
    samples=5120,
    expected="a better frontier of reward and KL than PPO; invariant to shifts that PPO is not invariant to",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="reward",
    options={"evaluations": 20},
)
