"""Three wishes a program can verify: demonstrations meet them one time in five, their winners three times in ten.

The other arms leave a stage out, with the same number of samples in all.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does learning from preferences between imitation and verified rewards pay for its samples?",
    arms=(
        "sft(prompts=8):0.25 then ppo(beta=0.005, prompts=32)",
        "tulu3",
        "sft(prompts=8):0.25 then online-dpo(beta=5.0, score='mean', data=True, prompts=8)",
        "ppo(beta=0.005, prompts=32)",
    ),
    task="closing",
    samples=6144,
    expected="development average 64.8 against 62.2 for Llama-3.1-8B-Instruct; each stage adds to the one before",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="area",
    metric="reward",
    options={"evaluations": 20},
)
