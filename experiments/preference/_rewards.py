"""Rewards that experiments on rm-lab and closing hand to `rlhf`: the hidden one, and what is wrong with it."""

from random import Random

from frugal.preference.tasks.closing import wishes
from frugal.preference.tasks.rm_lab import reward

SHIFT = 1.0  # standard deviation of what is added to all responses to a prompt
EXTREME = 0.05  # standard deviation of the error at the ends of the reward
ENDS = (0.2, 0.8)


def shifted(prompts, completions):
    """The reward of rm-lab and, for every prompt, a number of its own, which no comparison could show."""
    return [reward(p, c) + Random(f"shift {p}").gauss(0, SHIFT) for p, c in zip(prompts, completions, strict=True)]


def uneven(prompts, completions):
    """The reward of rm-lab, but any middling number, the same at every call, where it is middling."""

    def seen(p: str, c: str) -> float:
        r, rnd = reward(p, c), Random(f"error {p} {c}")
        return rnd.uniform(*ENDS) if ENDS[0] < r < ENDS[1] else r + rnd.gauss(0, EXTREME)

    return [seen(p, c) for p, c in zip(prompts, completions, strict=True)]


def met(prompts, completions):
    """The share of the three wishes of closing that a response meets."""
    return [sum(wishes(p, c)) / 3 for p, c in zip(prompts, completions, strict=True)]
