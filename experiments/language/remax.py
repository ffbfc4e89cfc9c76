"""One response a prompt: without a baseline its reward says more about the prompt than about the response."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does the greedy response, which is charged too, pay as a baseline where there is no group?",
    arms=("reinforce(prompts=128, group=1)", "reinforce(prompts=64, group=1)+remax", "rloo(prompts=64, group=2)"),
    task="modchain",
    samples=5120,
    expected="a higher and steadier reward than REINFORCE, at 1.6 times the speed of PPO",
    search={"lr": (2e-4, 4e-4, 8e-4)},
)
