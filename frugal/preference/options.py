"""What a run of the preference domain needs beside recipe, task, budget and seed. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from frugal.language.options import Options as LanguageOptions


@dataclass(frozen=True)
class Options(LanguageOptions):
    """Those of the language domain, and who labels; written to run.json."""

    label: str | None = None  # file.py:function, command:..., model:folder; None: the task itself
    eval_problems: int = 128
    eval_k: int = 1  # responses to each
