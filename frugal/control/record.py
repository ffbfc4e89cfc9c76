"""What a round of control leaves behind: means of its episodes, a snapshot to resume from, rows that broke a part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from frugal.core.errors import RunFailed
from frugal.core.live import NotFinite
from frugal.core.run import Run

from .env import Ended, Environments, Step

PATIENCE = 3  # updates in a row without a number, before the run is stopped


@dataclass
class Episodes:
    """Returns and lengths of the episodes that ended in a round."""

    ret: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)

    def add(self, step: Step, env: Environments) -> Ended:
        """Note the episodes that ended with a step."""
        rows = step.ended.nonzero()[:, 0]
        tasks = env.tasks
        over = Ended(rows, None if tasks is None else tasks[rows], step.ret[rows], step.length[rows])
        self.ret += over.ret.tolist()  # type: ignore[union-attr]
        self.length += over.length.tolist()
        return over

    def means(self) -> dict[str, float]:
        """Nothing where no episode ended."""
        n = len(self.ret)
        return {"episodes": n, **({"return": sum(self.ret) / n, "length": sum(self.length) / n} if n else {})}


def finite(norm: float, rows: Any, said: Mapping[str, Tensor]) -> None:
    """Raise `NotFinite` if a gradient's norm is none, naming the first part that said so."""
    if norm < float("inf"):
        return
    wrong = [path for path, value in said.items() if not value.isfinite().all()]
    raise NotFinite(wrong[0] if wrong else "the gradient", rows)


def set_aside(run: Run, wrong: NotFinite) -> None:
    """Write what made a part say no number to ``broken/``. Raises `RunFailed` after `PATIENCE` updates in a row."""
    place = "the run's folder"
    if run.out:
        about = {
            name: value.tolist()
            for name in ("obs", "act", "reward", "next")
            if isinstance(value := getattr(wrong.rows, name, None), torch.Tensor) and value.dtype != torch.uint8
        }
        place = str(run.out / "broken" / f"{run.clock:08d}.json")
        run.write(f"broken/{run.clock:08d}.json", json.dumps({"part": wrong.path, **about}))
    if run.stumbled == PATIENCE:
        raise RunFailed(
            f"{wrong.path} was NaN or infinite for {PATIENCE} updates in a row, the last after {run.ledger.samples} "
            f"samples; no step was made with it, and the rows are in {place}. Try a lower learning rate than "
            f"{run.settings.lr:g} and smaller rewards; earlier checkpoints are intact"
        )


def snapshot(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the next round depends on, beside what the run itself keeps."""
    return {f"{name}/{k}": v for name, owner in kept.items() for k, v in owner.state_dict().items()}


def resume(run: Run, kept: Mapping[str, Any]) -> bool:
    """Put everything back to the run's newest checkpoint; whether it has one."""
    state = run.state
    if state is None:
        return False
    for name, owner in kept.items():
        owner.load_state_dict({k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(name + "/")})
    run.state = None
    return True
