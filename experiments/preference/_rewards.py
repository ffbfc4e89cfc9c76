"""Rewards that experiments on rm-lab and closing hand to `rlhf`: the hidden one, and what is wrong with it."""

from random import Random

from frugal.preference.tasks.closing import wishes
from frugal.preference.tasks.rm_lab import reward

SHIFT = 5.0  # standard deviation of what is added to all responses to a prompt
EXTREME, MIDDLE = 0.05, 0.5  # standard deviations of the error at the ends of the reward, and between them
ENDS = (0.2, 0.8)


def shifted(prompts, completions):
    """The reward of rm-lab and, for every prompt, a number of its own, which no comparison could show."""
    return [reward(p, c) + Random(f"shift {p}").gauss(0, SHIFT) for p, c in zip(prompts, completions, strict=True)]


def uneven(prompts, completions):
    """The reward of rm-lab with an error, the same at every call, that is large where the reward is middling."""

    def error(p: str, c: str) -> float:
        return Random(f"error {p} {c}").gauss(0, MIDDLE if ENDS[0] < reward(p, c) < ENDS[1] else EXTREME)

    return [reward(p, c) + error(p, c) for p, c in zip(prompts, completions, strict=True)]


def met(prompts, completions):
    """The share of the three wishes of closing that a response meets."""
    return [sum(wishes(p, c)) / 3 for p, c in zip(prompts, completions, strict=True)]
