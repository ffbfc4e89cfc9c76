"""Three stages on one policy: supervised, then preferences with lengths divided out, then rewards that are verified.

Changes      the first `supervised` of the budget: -log pi of the task's demonstrations (`sft`)
             the next `preferences` of it: -log sigmoid(beta (z_w / |y_w| - z_l / |y_l|)), z = log(pi / pi_ref) of a
             response and pi_ref the policy that came of the stage before, on pairs of the policy's own samples,
             labelled by the task, and (`data`) on those of the data
             what is left: PPO on the verifier's score minus kl log(pi / pi_ref), pi_ref again what came before
Source       Tulu 3: Pushing Frontiers in Open Language Model Post-Training, Lambert et al. 2024, arXiv 2411.15124:
             supervised finetuning of section 4, length-normalised DPO with beta = 5 of section 5, RLVR of section 6
Ours         a quarter of the samples for each of the first two; a sample is a demonstration, a label or a response.
             Own samples come from the present policy, where the paper's come from a pool of models before the stage.
             kl = 0.005 stands for the paper's reward of 10 and coefficient of 0.05: PPO divides advantages by their
             spread, so that only their ratio counts. The critic begins as the policy, not as a reward model.
             `prompts` a round, of the last stage four times as many. Checkpoints are not chosen: the last one counts
Leans on     a task with demonstrations, an oracle and a verifier, and (`data`) pairs
Experiment   experiments/preference/tulu3.py
"""

from __future__ import annotations

from frugal.core.errors import BadRecipe
from frugal.core.stages import Stage, Stages, staged
from frugal.language.recipes import ppo, sft
from frugal.preference.recipes import online_dpo

TASK = "closing"


@staged
def tulu3(
    supervised: float = 0.25,
    preferences: float = 0.25,
    data: bool = True,
    beta: float = 5.0,
    kl: float = 0.005,
    prompts: int = 8,
) -> Stages:
    """Supervised, then preferences, then verified rewards; the first two stages take these shares of the samples."""
    if not (0 < supervised < 1 and 0 < preferences < 1 and supervised + preferences < 1):
        raise BadRecipe(
            f"tulu3(supervised={supervised}, preferences={preferences}): give shares above 0 that leave some for the "
            "last stage; fewer stages are written out: sft:0.5 then ppo"
        )
    return Stages(
        (
            Stage(sft(prompts=prompts), supervised),
            Stage(online_dpo(beta=beta, score="mean", data=data, prompts=prompts), preferences),
            Stage(ppo(beta=kl, prompts=4 * prompts)),
        )
    )
