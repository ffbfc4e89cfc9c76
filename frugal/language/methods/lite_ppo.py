"""Two tricks out of many: advantages over the batch's spread instead of the group's, a loss averaged over tokens.

Changes      credit.advantage.scale: batch, so that A_i = (R_i - mean of i's group) / (std of R over the round + 1e-4)
             mean: token, so that the loss is its sum over all used tokens divided by their number
Source       Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning, Liu et al. 2025, arXiv 2508.08221: Lite PPO
             of section 5, from takeaways 3 (section 4.1.2) and 7 (section 4.4); the spread is that of the rewards
             themselves, as in the released code (github.com/alibaba/ROLL, `reward_norm`), not of R - mean
Ours         each of the two can be switched off: `batch_std`, `token_mean`. The study's table, normalisations beside
             aggregations, is the experiment: `frugal prove lite-ppo` prints it
Leans on     a base that compares a group's rewards (`grpo`, `dr-grpo`, `dapo`, `gspo`, `cispo`)
Experiment   experiments/language/lite_ppo.py
"""

from __future__ import annotations

from frugal.core.recipe import Patch, patch

NEUTRAL = {"batch_std": False, "token_mean": False}


@patch
def lite_ppo(batch_std: bool = True, token_mean: bool = True) -> Patch:
    """Lite PPO: group mean with batch standard deviation, and the token mean of the loss."""
    why = "the spread of the batch takes the place of the group's"
    return Patch(
        fill={"credit.advantage.scale": "batch"} if batch_std else {},
        set={"mean": "token"} if token_mean else {},
        leans_on={"compares a group's rewards": why} if batch_std else {},
        optional={"credit.advantage": "batch_std=False", "mean": "token_mean=False"},
    )
