"""A pendulum that has to be swung up: its upright end is rare in early episodes, and every second state of a teacher's.

The teacher was made by: frugal run 'sac(hidden=(64,64), lr=1e-3)' Pendulum-v1 --samples 8000 --seed 50 --threads 1;
its model/ lies beside this file, and its 8000 samples are not counted. The last arm's snapshots are not sorted into
classes, and its episodes are not cut.
"""

from frugal.evidence.experiment import Experiment

BASE = "sac(hidden=(64, 64))"
PHASE = "share=0.25"  # thirty episodes of 50 steps, more than there are classes
TEACHER = "teacher='experiments/control/snapshot_rl_teacher'"

EXPERIMENT = Experiment(
    question="Do early episodes from a teacher's states reach the return of plain SAC with fewer samples?",
    arms=(
        BASE,
        f"{BASE}+snapshot-rl({TEACHER}, {PHASE}, limit=50)",
        f"{BASE}+snapshot-rl({TEACHER}, {PHASE}, classes=1, limit=0)",
    ),
    task="Pendulum-v1",
    samples=6000,
    expected="TD3 and SAC gain sample efficiency and return on six MuJoCo tasks without extra samples",
    search={"lr": (3e-4, 1e-3, 3e-3)},
    options={"evaluations": 60, "eval_episodes": 5},
)
