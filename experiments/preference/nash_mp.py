"""Half of what decides is a circle, so that hardly a prompt has a response that nothing beats; the KL penalty is weak.

All arms want the same policy, the one that no other beats under that penalty; the unpenalised game measures them.
"""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does a look-ahead end closer to the policy that nothing beats, where plain self-play goes in circles?",
    arms=(
        "online-dpo(loss='ipo', beta=0.03, prompts=64)",
        "online-dpo(prompts=64)+nash-mp(beta=0.03)",
        "online-dpo(prompts=64)+nash-mp(beta=0.03, lookahead=False)",
    ),
    task="pairs(cyclic=50, prompts=2)",
    samples=16384,
    expected="linear convergence of the last iterate, at (1 + 2 beta)^(-N / 2) in N queries",
    search={"lr": (5e-4, 1e-3, 2e-3)},
    rests_on="final",
    metric="exploitability",
    larger_is_better=False,
)
