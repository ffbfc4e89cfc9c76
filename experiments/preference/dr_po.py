"""One wish of three comes at the end of a response, and the start policy meets it once in a hundred times.

Trained is the share of wishes met; measured is who wins against the start, of whom more are met. The end costs five
nats, so that at the usual coefficient its KL penalty would eat most of the reward of 1/3.
In the paper PPO starts from what was fine-tuned on the same references; here only the method sees them.
"""

from frugal.evidence.experiment import Experiment

RLHF = "rlhf(reward='experiments/preference/_rewards.py:met', prompts=32, beta=0.01)"

EXPERIMENT = Experiment(
    question="Is a policy whose responses begin within preferred ones ahead on average over the run?",
    arms=(RLHF, f"{RLHF}+dr-po", f"{RLHF}+dr-po(share=0.5)"),
    task="closing",
    samples=5120,
    expected="win rate of 70.2% against the references of TL;DR, PPO 62.3%, as judged by GPT-4 (table 1)",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
    rests_on="area",
    metric="win",
    options={"evaluations": 20},
)
