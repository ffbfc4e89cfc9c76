"""References meet the wishes three times in ten, the start policy once in five hundred: better, but not the best.

Trained is the share of wishes met; measured is who wins against the start, of whom more are met. A reference of the
data costs GRAO nothing; a demonstration costs the last arm a sample.
"""

from frugal.evidence.experiment import Experiment

RLHF = "rlhf(reward='experiments/preference/_rewards.py:met', baseline='group', beta=0.0, prompts=4)"

EXPERIMENT = Experiment(
    question="Is a policy with a reference answer in its groups ahead on average over the run?",
    arms=(RLHF, f"{RLHF}+grao", f"{RLHF}+grao(beta=0.0)", f"sft(prompts=8):0.25 then {RLHF}"),
    task="closing",
    samples=5120,
    expected="5.18% relative gain over GRPO and 57.70% over SFT, in about half the steps",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
    rests_on="area",
    metric="win",
    options={"evaluations": 20},
)
