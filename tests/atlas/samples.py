"""Results as `frugal prove` writes them, with numbers made up."""

import json
from pathlib import Path
from typing import Any

GRID = [0, 1024, 2048, 3072, 4096]


def result(slug: str, verdict: str, arms: list[str], ratio: float = 1.6) -> dict[str, Any]:
    """Two seeds an arm; the arms differ by 0.1 at the end."""
    rows = []
    for i, arm in enumerate(arms):
        curves = [[0.5, 0.6, 0.65, 0.7 + d, 0.7 + 0.1 * i + d] for d in (-0.01, 0.01)]
        rows.append(
            {
                "recipe": arm,
                "curves": curves,
                "final": [curve[-1] for curve in curves],
                "final_mean": 0.7 + 0.1 * i,
                "final_interval": [0.6, 0.9],
                "area_mean": 0.64,
                "area_interval": [None, None],
                "ledger": {"samples": 4096, "gradient_steps": 32.5},
                "patches": {f"act.temperature.{slug}": 0.9} if i else {},
            }
        )
    return {
        "slug": slug,
        "domain": "language",
        "verdict": verdict,
        "scale": "0.3M, modchain, 4096 samples",
        "sentence": f"{arms[-1]} reached 0.95 of {arms[0]}'s gain with <b>{ratio}x</b> fewer samples: {verdict}.",
        "question": "Does it save samples where few tokens decide?",
        "metric": "held-out greedy accuracy",
        "grid": GRID,
        "arms": rows,
        "statistics": {
            "ratio": ratio,
            "ratio_interval": [1.1, 2.3],
            "p": 0.031,
            "fraction": 0.95,
            "target": 0.69,
            "reached": [2, 2],
            "seeds": [2, 2],
            "final_difference": 0.1,
            "final_difference_interval": [0.02, 0.18],
            "final_p": 0.04,
            "warnings": ["the baseline has not levelled off"],
        },
        "command": f"frugal prove {slug}",
        "versions": {"frugal": "0.1.0", "torch": "2.13.0"},
        "machine": "x86_64, 2 cores, Linux",
        "seconds": 512,
        "a field of tomorrow": {"deep": [1, None]},
    }


ALL = {
    "ead": result("ead", "holds", ["grpo", "grpo+ead"]),
    "lp-reg": result("lp-reg", "not shown", ["grpo", "grpo+lp-reg", "grpo+lp-reg(loose=False)"], 1.02),
    "remax": result("remax", "opposite", ["reinforce", "reinforce+remax"], 0.71),
    "ead-and-capo": result("ead-and-capo", "holds", ["grpo", "grpo+ead+capo"]),
}

MATRIX = {
    "task": "modchain",
    "base": "grpo(prompts=4)",
    "samples": 4096,
    "seeds": 4,
    "metric": "held-out greedy accuracy",
    "fraction": 0.95,
    "target": 0.69,
    "command": "frugal combine 'grpo(prompts=4)' ead capo --on modchain",
    "alone": {
        "ead": {"ratio": 1.5, "interval": [1.1, 2.0]},
        "capo": {"ratio": 0.8, "interval": [0.5, 1.3]},
        "lp-reg(loose=False)": {"ratio": 1.0, "interval": [None, None]},
    },
    "pairs": [
        {"patches": ["ead", "capo"], "ratio": 2.4, "expected": 1.2, "word": "compound"},
        {"patches": ["ead", "lp-reg(loose=False)"], "ratio": 1.4, "expected": 1.5, "word": "no interaction shown"},
        {"patches": ["capo", "lp-reg(loose=False)"], "clash": "both fill <learn.keep>"},
    ],
}


def write(folder: Path, results: dict[str, Any] = ALL) -> Path:
    """The folder ``results/`` of a checkout."""
    (folder / "language").mkdir(parents=True, exist_ok=True)
    for slug, found in results.items():
        (folder / "language" / f"{slug}.json").write_text(json.dumps(found))
    if results:
        none = {"task": "countdown", "base": "grpo", "target": None, "alone": {}, "pairs": [], "command": "frugal"}
        matrices = [MATRIX, none]
        (folder / "language" / "combinations.json").write_text(json.dumps(matrices))
    return folder
