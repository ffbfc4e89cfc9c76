"""`frugal-language` on a task that had no part in its choice; the last arm has its round size with groups of eight.

It was chosen on `modchain` and `addtrace`, seeds 100 and 101, 2560 samples, by the mean area under both curves: first
among seventeen arms (GRPO, RLOO, Dr. GRPO and REINFORCE with rounds of several sizes, several passes over them, `rec`,
`ghpo`, `pcl`), then among rounds of 4, 8 and 16 single responses. Those differed by less than 0.005, and the largest
takes the fewest steps.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="On a task that it was not chosen on, does frugal-language need fewer samples than GRPO?",
    arms=("grpo", "frugal-language", "dapo", "grpo(prompts=2)"),
    task="cipher(unknown=2)",
    samples=5120,
    expected="a fifth of GRPO's samples is what we aim for; no paper's claim",
    search={"lr": (2e-4, 4e-4, 8e-4, 1.6e-3)},
    options={"evaluations": 80},
)
