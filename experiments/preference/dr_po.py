"""What is rewarded comes at the end of a response, and the start policy writes it once in a hundred times.

That end costs five nats, so that at the usual coefficient its KL penalty would eat most of the reward of 1/3.
In the paper PPO starts from what was fine-tuned on the same references; here only the method sees them.
"""

from frugal.evidence.experiment import Experiment

RLHF = "rlhf(reward='experiments/preference/_rewards.py:met', prompts=32, beta=0.01)"

EXPERIMENT = Experiment(
    question="Do responses that begin within preferred ones find sooner what is rewarded at their end?",
    arms=(RLHF, f"{RLHF}+dr-po", f"{RLHF}+dr-po(share=0.5)"),
    task="closing",
    samples=5120,
    expected="win rate of 70.2% against the references of TL;DR, PPO 62.3%, as judged by GPT-4 (table 1)",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
    rests_on="area",
    metric="reward",
)
