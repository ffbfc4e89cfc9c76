"""Where a known share of labels is wrong, losses of the given and of the turned label make up the true one's.

Changes      learn.loss: ((1 - flips) L(y) - flips L(1 - y)) / (1 - 2 flips), L the base's loss and y the label, of
             which the share `flips` is turned round at random: in expectation over that, L of the true label
Source       Provably Robust DPO: Aligning Language Models with Noisy Feedback, Ray Chowdhury, Kini and Natarajan 2024,
             arXiv 2403.00409, section 3 (the loss of rDPO) and, for other losses than DPO's, its section on them
Ours         the default of a tenth: the share is the user's to know. The loss has no lower bound, and a pair that is
             sure already is still pushed, beta flips / (1 - 2 flips) a nat; nothing is done about it, as in the paper
Leans on     nothing
Experiment   experiments/preference/robust_dpo.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.preference.pairs import Pairs

NEUTRAL = {"flips": 0.0}


@dataclass(frozen=True)
class Unbiased:
    """The inner loss as it would be without flips, in expectation. [n]"""

    flips: float
    inner: Any = None

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        given, turned = self.inner(z_a, z_b, mini), self.inner(z_a, z_b, mini.put(y=1 - mini.y))
        return ((1 - self.flips) * given - self.flips * turned) / (1 - 2 * self.flips)


@patch
def robust_dpo(flips: float = 0.1) -> Patch:
    """Robust DPO (rDPO) for labels of which the share `flips` is wrong."""
    if not 0 <= flips < 0.5:
        raise BadRecipe(f"robust-dpo(flips={flips}): give a share from 0 to below 1/2")
    return Patch(wrap={"learn.loss": Unbiased(flips)}, domain="preference")
