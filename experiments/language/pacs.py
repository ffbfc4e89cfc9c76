"""Many expressions reach a target, a third of the samples do, and four steps a round let the classifier's error shrink.

Both arms are tuned for the accuracy of one sample, and judged by whether any of 16 is right: confident responses stop
receiving gradient, so that less is forgotten for what is gained.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does predicting outcomes from likelihoods keep more solutions within 16 samples than GRPO does?",
    arms=("grpo(minibatches=4)", "grpo(minibatches=4)+pacs", "grpo(minibatches=4)+pacs(balanced=False)"),
    task="countdown",
    samples=5120,
    expected="pass@256 of 59.78% on AIME 2025 with 7B, 13.32 points above PPO and 14.36 above GRPO",
    search={"lr": (1e-4, 2e-4, 4e-4)},
    rests_on="final",
    metric="pass@16",
    tuned_by="sampled",
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
