"""Many expressions reach a target, and sixteen steps a round: entropy falls, and pass@16 falls with it."""

from frugal.evidence.experiment import Experiment

BASE = "grpo(prompts=32, minibatches=16, mean='token')"

EXPERIMENT = Experiment(
    question="Does less weight on the tokens that would change the entropy most end in higher sampled accuracy?",
    arms=(BASE, f"{BASE}+steer", f"{BASE}+steer(low=0.2)"),
    task="countdown",
    samples=5120,
    expected="44.2 to 48.6 over GRPO on six mathematics sets with a 7B model, without entropy collapse",
    search={"lr": (2e-4, 4e-4, 8e-4)},
    rests_on="final",
    metric="sampled",
    options={"evaluations": 1, "eval_problems": 128, "eval_k": 16},
)
