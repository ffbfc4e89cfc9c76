"""Tasks of the preference domain: language tasks that can also say which of two responses is better.

Beside what a language task has, where it has them:

- ``prefer(problems, first, second)``: for every pair P(the first is better), or None where it cannot tell;
- in the columns of its problems ``chosen`` and ``rejected``, a pair with its label;
- ``exact(now, start, net)``: every figure of an evaluation, from probabilities instead of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .brief import Brief
from .closing import Closing
from .pairs import ResponsePairs
from .rm_lab import RMLab

BUILT_IN: Mapping[str, Callable[..., Any]] = {task.name: task for task in (ResponsePairs, RMLab, Closing, Brief)}
