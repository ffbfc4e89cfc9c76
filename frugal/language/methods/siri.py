"""The longest allowed response shrinks and grows again in waves: what is squeezed out are the redundant tokens.

Changes      max_tokens: L = limit ((1 + low) / 2 + (1 - low) / 2 cos(2 pi cycles progress)), with `limit` what the task
             asks for; a response is cut at L, and is right only if the verifier finds the answer in it
Source       SIRI: Scaling Iterative Reinforcement Learning with Interleaved Compression, Wen et al. 2025,
             arXiv 2509.25176: reward of section 4.2, cosine schedule of section 4.3, low = 8192 / 16384 and three
             cycles of section 5.1
Ours         a cycle is a share of the run, where the paper's has 640 steps. The stair and the stair-cosine schedule of
             section 4.3 are left out: the cosine was best. So are clip-higher and the missing KL penalty of its runs:
             `grpo` has none, and no clipping at one step a round.
Leans on     nothing
Experiment   experiments/language/siri.py
"""

from __future__ import annotations

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.core.schedule import wave

NEUTRAL = {"low": 1.0}


@patch
def siri(low: float = 0.5, cycles: float = 3.0) -> Patch:
    """The length limit oscillates between all of it and its share `low`, `cycles` times over the run."""
    if not 0 < low <= 1 or cycles <= 0:
        raise BadRecipe(f"siri(low={low}, cycles={cycles}): give 0 < low <= 1 and cycles > 0")
    return Patch(set={"max_tokens": wave(1.0, float(low), cycles)})
