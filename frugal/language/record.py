"""What a round leaves behind: a line of the curve, a table of completions, a snapshot to resume from."""

from __future__ import annotations

import json
from typing import Any

from frugal import maths
from frugal.core.errors import RunFailed
from frugal.core.live import Live, NotFinite
from frugal.core.optimiser import Optimiser
from frugal.core.run import Run

from .policy import Policy
from .rollout import completions
from .rows import Rows

PATIENCE = 3  # rounds in a row without a number, before the run is stopped


def describe(batch: Rows, steps: list[dict[str, float]]) -> dict[str, Any]:
    """Means of one round: score of the counted rows, length, truncation, entropy estimate, stale tokens, losses."""
    counted = batch.sampled
    line = {
        "score": float(batch.score[counted].mean()) if counted.any() else 0.0,
        "length": float(batch.length[counted].float().mean()) if counted.any() else 0.0,
        "truncated": float((~batch.done[counted]).float().mean()) if counted.any() else 0.0,
        "entropy": -float(maths.masked_mean(batch.old, batch.use)),
        "stale": float(maths.masked_mean(batch.stale.float(), batch.use)),
        "groups": len(batch.group.unique()),
    }
    for name in dict.fromkeys(name for step in steps for name in step):
        values = [step[name] for step in steps if name in step]
        line[name] = sum(values) / len(values)
    return line


def table(batch: Rows, net: Policy, clock: int) -> list[dict[str, Any]]:
    """One dictionary a rollout, for the completion table."""
    texts = completions(net, batch)
    prompts = {prompt: net.tokenizer.decode(prompt) for prompt in set(batch.prompts)}
    return [
        {
            "round": clock,
            "group": int(batch.group[b]),
            "prompt": prompts[batch.prompts[b]],
            "completion": text if isinstance(text, str) else "\n".join(text),
            "score": float(batch.score[b]),
            "advantage": float(batch.A[b, 0]),
            "tokens": int(batch.length[b]),
            "done": bool(batch.done[b]),
            "trained": bool(batch.use[b].any()),
        }
        for b, text in enumerate(texts)
    ]


def set_aside(run: Run, net: Policy, wrong: NotFinite) -> None:
    """Write the rows that made a part say no number to ``broken/``. Raises `RunFailed` after `PATIENCE` rounds."""
    texts, rows, place = completions(net, wrong.rows), wrong.rows, "the run's folder"
    about = [
        {"part": wrong.path, "prompt": net.tokenizer.decode(rows.prompts[b]), "completion": text, "score": score}
        for b, (text, score) in enumerate(zip(texts, rows.score.tolist(), strict=True))
    ]
    if run.out:
        place = str(run.out / "broken" / f"{run.clock:08d}.json")
        run.write(f"broken/{run.clock:08d}.json", json.dumps(about, indent=2))
    if run.stumbled == PATIENCE:
        raise RunFailed(
            f"{wrong.path} was NaN or infinite for {PATIENCE} rounds in a row, the last after {run.ledger.samples} "
            f"samples; no step was made with it, and the samples are in {place}. Try a lower learning rate than "
            f"{run.settings.lr:g} and smaller rewards; earlier checkpoints are intact"
        )


def snapshot(run: Run, optimiser: Optimiser, live: Live) -> dict[str, Any]:
    """Everything that the next round depends on, beside what the run itself keeps."""
    # the first stage's reference is the model that the run starts from; a later one is nowhere else
    reference = run.net.reference.model.state_dict() if run.stage and run.net.reference else {}
    return {
        **{f"optimiser/{k}": v for k, v in optimiser.state_dict().items()},
        **{f"parts/{k}": v for k, v in live.state_dict().items()},
        **{f"reference/{k}": v.clone() for k, v in reference.items()},
    }


def resume(run: Run, optimiser: Optimiser, live: Live) -> None:
    """Put optimiser, weights, parts and reference back to the run's newest checkpoint, if it has one."""
    state = run.state
    if state is None:
        return
    reference = {k.removeprefix("reference/"): v for k, v in state.items() if k.startswith("reference/")}
    if reference:
        run.net.reference = run.net.reference or run.net.copy()
        run.net.reference.model.load_state_dict(reference)
    for prefix, owner in (("optimiser/", optimiser), ("parts/", live)):
        owner.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    run.state = None
