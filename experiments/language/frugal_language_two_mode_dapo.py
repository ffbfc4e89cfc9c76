"""The runs of `frugal-language-two-mode`, with DAPO as the baseline."""

from dataclasses import replace

from frugal.evidence.experiment import load

EXPERIMENT = replace(
    load("frugal-language-two-mode"),
    question="On a task that it was not chosen on, does frugal-language need fewer samples than DAPO?",
    arms=("dapo", "frugal-language"),
)
