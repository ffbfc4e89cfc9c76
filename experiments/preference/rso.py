"""The same thousand labels: learnt from directly, or through a reward model that labels samples of the start policy.

The demonstrations of the data are as good as the start policy's responses; better pairs are rare among both. The last
arm learns from samples of the start policy without rejection. All arms learn from 2048 pairs, 32 a step.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Are pairs from the policy that a reward model says is best better to learn from than those of the data?",
    arms=("dpo", "online-dpo(prompts=8)+rso", "online-dpo(prompts=8)+rso(beta=1e9)"),
    task="rm-lab(train=1024)",
    samples=2048,
    expected="TL;DR: 92.4% wins by the proxy reward, 84.4% for DPO on human pairs, 88.6% on samples without rejection",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="reward",
    options={"evaluations": 20},
)
