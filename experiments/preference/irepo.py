"""Labels are drawn with the chance that their rewards say: one label of a pair is little, five say how sure it is.

Every vote counts as a label, so that plain online DPO sees five times as many pairs. How many prompts a round has is
searched too: with iREPO a round is an iteration, of fewer pairs for as many labels.
"""

from frugal.evidence.experiment import Experiment

BASE = "online-dpo(epochs=4)"

EXPERIMENT = Experiment(
    question="Do several votes on each pair save labels, where the policy learns how much better a response is?",
    arms=(BASE, f"{BASE}+irepo", f"{BASE}+irepo(votes=3)"),
    task="pairs",
    samples=4096,
    expected="passes SFT, DPO, IPO and SPIN on the evaluation harness and MT-Bench (Phi-2, Mistral-7B)",
    search={"lr": (2.5e-4, 5e-4, 1e-3), "prompts": (64, 256)},
)
