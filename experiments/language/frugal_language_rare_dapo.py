"""The runs of `frugal-language-rare`, with DAPO as the baseline."""

from dataclasses import replace

from frugal.evidence.experiment import load

EXPERIMENT = replace(
    load("frugal-language-rare"),
    question="On a task that it was not chosen on, does frugal-language need fewer samples than DAPO?",
    arms=("dapo", "frugal-language"),
)
