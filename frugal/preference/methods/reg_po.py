"""DPO and a small supervised loss on the preferred responses, so that what no label covers is not favoured.

Changes      learn.terms: -weight (y log pi(a) + (1 - y) log pi(b)), log pi summed over a response, y the label: the
             supervised loss on what was preferred. weight is the paper's eta beta
Source       Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial Regularizer,
             Liu et al. 2024, arXiv 2405.16436: the objective of RPO, with the sum over tokens of the main text; eta and
             beta of the released code (github.com/YSLIU627/Regularized-Preference-Optimization)
Ours         one weight in place of eta beta, so that it means the same beside every loss. The default is that of the
             paper's Mistral-based run, 0.005 x 0.01; its Gemma-based run has 0.005 x 0.05. Appendix F's mean over
             tokens is left out. Where a label is a share of votes, so is the supervised loss
Leans on     a base that compares log-ratios (`dpo`, `online-dpo`)
Experiment   experiments/preference/reg_po.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Now
    from frugal.preference.pairs import Pairs

NEUTRAL = {"weight": 0.0}


@dataclass(frozen=True)
class Imitation:
    """-weight log pi of the response that was preferred. [n]"""

    weight: float

    def __call__(self, now: Now, mini: Pairs) -> Tensor:
        logp = now.logp.sum(1)  # [b]
        return -self.weight * (mini.y * logp[mini.a] + (1 - mini.y) * logp[mini.b])


@patch
def reg_po(weight: float = 5e-5) -> Patch:
    """Regularised preference optimisation (RPO): imitate what was preferred, with this weight."""
    if weight < 0:
        raise BadRecipe(f"reg-po(weight={weight}): give 0 or more")
    return Patch(
        add={"learn.terms": Imitation(weight)},
        leans_on={"compares log-ratios": "it raises the log-probability of preferred responses"},
        domain="preference",
    )
