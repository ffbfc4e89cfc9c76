"""Between 0.2 and 0.8 the reward is any number from there, outside it errs by 0.05: its ends are truer."""

from frugal.evidence.experiment import Experiment

RLHF = "rlhf(reward='experiments/preference/_rewards.py:uneven', prompts=32{})"

EXPERIMENT = Experiment(
    question="Do the best of five responses and another teach more than all five where the middle is noise?",
    arms=(
        RLHF.format(", group=5"),
        RLHF.format("") + "+pf-ppo",
        RLHF.format("") + "+pf-ppo(keep='best-worst')",
        RLHF.format("") + "+pf-ppo(keep='best')",
    ),
    task="rm-lab",
    samples=5120,
    expected="HumanEval 82.9 and 82.4 (best-random, best-worst), PPO on all samples 80.2, on the best 75.8",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    metric="reward",
)
