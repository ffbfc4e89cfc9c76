"""Many expressions reach a target, and four steps a round: what keeps a second solution alive is not in the first.

Both arms are tuned for the accuracy of one sample, and judged by whether any of 16 is right: what GRPO gains in the
one it pays for in the other.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does fitting the random policy's values keep more solutions within 16 samples than GRPO does?",
    arms=("grpo(minibatches=4)", "grpo(minibatches=4)+rover"),
    task="countdown",
    samples=5120,
    expected="pass@1 higher by 8.2 and pass@256 by 16.8 points than the best baseline, mathematics with 8B",
    search={"lr": (1e-4, 2e-4, 4e-4)},
    rests_on="final",
    metric="pass@16",
    tuned_by="sampled",
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
