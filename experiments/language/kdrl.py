"""Long sums start all wrong, so that rewards say nothing of them; a teacher is right in 72% of all its samples.

The teacher is the task's model after 1024 samples of GRPO, which are not charged, as in the paper. The coefficients
are a hundred and ten times the paper's: at the start the gradient of the term is about twice and a fifth of the
surrogate's. The last arm has so large a one that rewards do not matter: distillation alone.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does distilling a better, imperfect teacher while learning from rewards save samples?",
    arms=(
        "grpo(prompts=4)",
        "grpo(prompts=4)+kdrl(beta=linear(0.5, 0.1))",
        "grpo(prompts=4)+kdrl(beta=linear(0.05, 0.01))",
        "grpo(prompts=4)+kdrl(beta=1000.0)",
    ),
    task="addtrace",
    samples=5120,
    expected="57.2% average in mathematics with 1.5B, 2.6 points over GRPO and 1.1 over distillation alone",
    search={"lr": (4e-4, 8e-4, 1.6e-3)},
)
