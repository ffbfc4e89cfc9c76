"""What a round leaves behind: a line of the curve and a table of responses."""

from __future__ import annotations

from typing import Any

from frugal.language.policy import Policy
from frugal.language.rollout import completions
from frugal.language.rows import Rows

from .pairs import Pairs


def describe(rows: Rows, pairs: Pairs, steps: list[dict[str, float]]) -> dict[str, Any]:
    """Means of one round: length and truncation of what was compared, accuracy and losses of what was learnt from."""
    line = {
        "pairs": len(pairs),
        "length": float(rows.length.float().mean()),
        "truncated": float((~rows.done).float().mean()),
    }
    for name in steps[0] if steps else ():
        line[name] = sum(step[name] for step in steps) / len(steps)
    return line


def table(pairs: Pairs, net: Policy, clock: int) -> list[dict[str, Any]]:
    """One dictionary a response of a pair, for the completion table; `score` is the share of labels that it won."""
    rows, texts = pairs.rows, completions(net, pairs.rows)
    prompts = {prompt: net.tokenizer.decode(prompt) for prompt in set(rows.prompts)}
    return [
        {
            "round": clock,
            "pair": k,
            "prompt": prompts[rows.prompts[i]],
            "completion": texts[i],
            "score": won,
            "tokens": int(rows.length[i]),
            "done": bool(rows.done[i]),
            "drawn": bool(rows.drawn[i]),
        }
        for k, (a, b, y) in enumerate(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.y.tolist(), strict=True))
        for i, won in ((a, y), (b, 1 - y))
    ]
