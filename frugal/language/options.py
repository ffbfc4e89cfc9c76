"""What a run of the language domain can be told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What a run needs beside recipe, task, budget and seed; written to run.json."""

    model: str | None = None  # None: the task's own tiny model
    reward: str | None = None  # file.py:function or code, for a JSONL file or data set
    max_tokens: int = 0  # of a response; 0: what the task asks for
    lora: int = 0  # rank; 0 trains all weights
    dtype: str = "auto"
    evaluations: int = 10
    eval_problems: int = 64
    eval_k: int = 4
    micro_tokens: int = 0  # of one forward and backward pass; 0: what takes a few GB
    threads: int = 0  # 0: what torch takes; part of what makes a run repeatable
    trust_remote_code: bool = False
