"""Who labels: P(first beats second) for two responses to one problem, each answer one label.

A task's own ``prefer(problems, first, second)``, the user's function or command, a reward model, or else the task's
score. An oracle says a number in [0, 1], of which one label is drawn (0 and 1 are labels themselves), or None where it
cannot tell. What it could not tell, and where it hung or crashed, is counted and charged, and no pair is made of it.
"""

from __future__ import annotations

import inspect
import json
import math
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frugal.core import parallel
from frugal.core.errors import BadTask, FrugalError, RunFailed
from frugal.core.run import Run
from frugal.language.policy import Policy
from frugal.language.rollout import completions, verify
from frugal.language.rows import Rows
from frugal.language.tasks.task import Problem, Task
from frugal.language.tasks.watched import SECONDS, Failed, Raised, Watched

Prefer = Callable[[Sequence[Problem], Sequence[str], Sequence[str]], Sequence[float | None]]
CANNOT_TELL = float("nan")


class Asking:
    """The oracle as parts see it: counts and charges every label, up to the run's budget."""

    def __init__(self, task: Task, net: Policy, run: Run):
        self.task, self.net, self.run, self.calls = task, net, run, 0

    def __call__(self, rows: Rows, a: Tensor, b: Tensor) -> Tensor:
        """A label for each pair of rows a, b [n]: 1 where a wins, 0 where b does, NaN where there is none. -> y [n]

        Rows that have a score are labelled already, by the data: the higher one won. Equal texts are not asked about,
        but count as samples, so that a policy that always says the same comes to an end.
        """
        run, spent, texts = self.run, self.run.ledger, completions(self.net, rows)
        y = torch.full((len(a),), CANNOT_TELL)
        n = min(len(a), run.left())
        given = ~(rows.score[a] + rows.score[b]).isnan()
        same = torch.tensor([texts[i] == texts[j] for i, j in zip(a.tolist(), b.tolist(), strict=True)]).bool()
        y = torch.where(given, (rows.score[a] - rows.score[b]).sign() / 2 + 0.5, y)
        asked = (~given & ~same)[:n].nonzero()[:, 0]
        one, other = a[asked].tolist(), b[asked].tolist()
        said, failed = answers(
            self.task, [rows.problems[i] for i in one], [texts[i] for i in one], [texts[i] for i in other]
        )
        self.calls += 1
        u = torch.rand(len(asked), generator=run.rng("labels", self.calls))
        y[asked] = torch.where(said.isnan(), said, (u < said).float())
        y[n:] = CANNOT_TELL
        spent.samples += n
        spent.labels += int(given[:n].sum()) + len(asked)
        spent.label_failures += failed
        spent.abstentions += int(said.isnan().sum())
        spent.identical_pairs += int((~given & same)[:n].sum())
        return y

    def charge(self, y: Tensor) -> Tensor:
        """Labels y [n] that a part has from somebody else than the oracle: samples, up to the budget, but no labels."""
        n = min(len(y), self.run.left())
        self.run.ledger.samples += n
        return torch.where(torch.arange(len(y)) < n, y, CANNOT_TELL)


def answers(task: Task, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> tuple[Tensor, int]:
    """What the oracle says of pairs [n], NaN where nothing, and how often it failed; a process asks about its share."""
    mine = parallel.share(len(problems))
    said = compare(task, problems[mine], first[mine], second[mine])
    failed = torch.tensor(sum(isinstance(answer, Failed) for answer in said))
    known = [CANNOT_TELL if answer is None or isinstance(answer, Failed) else answer for answer in said]
    return parallel.whole(torch.tensor(known, dtype=torch.float32), len(problems)), int(parallel.summed(failed))


def oracle_of(task: Task) -> Prefer | None:
    """Who labels responses to the task's problems; None if nobody can."""
    if hasattr(task, "prefer"):
        return task.prefer  # type: ignore[no-any-return]
    return ByScore(task) if hasattr(task, "score") else None


def compare(task: Task, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
    """What the task's oracle says, checked: as many answers as pairs, each None or in [0, 1]."""
    prefer = oracle_of(task)
    if not problems:
        return []
    if prefer is None:
        raise BadTask(f"{task.name} has nobody who labels responses; give an oracle: --label my_labels.py:prefer")
    name = f"the oracle of {task.name}"
    try:
        said = list(prefer(problems, first, second))
    except FrugalError:
        raise
    except Exception as error:
        raised = error if isinstance(error, Raised) else f"{type(error).__name__}: {error}"
        raise RunFailed(
            f"{name} raised {raised}; the first pair that it was given: {first[0]!r}, {second[0]!r}"
        ) from error
    if len(said) != len(problems):
        raise RunFailed(f"{name} gave {len(said)} labels for {len(problems)} pairs; give one for each")
    for answer, a, b in zip(said, first, second, strict=True):
        number = isinstance(answer, (int, float)) and not isinstance(answer, str) and math.isfinite(answer)
        if answer is not None and not (number and 0 <= answer <= 1):
            raise RunFailed(
                f"{name} said {answer!r} of {a!r} against {b!r}; a label is the chance that the first is better, "
                "a number from 0 to 1, or None where it cannot tell"
            )
    return said


@dataclass(frozen=True)
class ByScore:
    """The response with the higher score wins; of equal ones nobody can tell which is better."""

    task: Task

    def __call__(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        pairs = zip(verify(self.task, problems, first), verify(self.task, problems, second), strict=True)
        return [None if a == b else float(a > b) for a, b in pairs]


class ByFunction:
    """The user's function at an address such as ``my_labels.py:prefer``, in a process of its own.

    It is called as ``prefer(prompts=[...], first=[...], second=[...], field=[...], ...)`` with one list for each field
    of the rows that it names, and returns a number in [0, 1] or None for each pair.
    """

    def __init__(self, address: str, seconds: float = SECONDS):
        self.function = Watched(address, seconds)
        parameters = inspect.signature(self.function).parameters.values()
        self.names = {p.name for p in parameters}
        self.all = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def __call__(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        fields = {key: [p.columns.get(key) for p in problems] for key in problems[0].columns}
        offered: dict[str, list[Any]] = {
            **fields,
            "prompts": [p.prompt for p in problems],
            "first": list(first),
            "second": list(second),
        }
        return list(self.function(**{k: v for k, v in offered.items() if self.all or k in self.names}))


@dataclass(frozen=True)
class ByCommand:
    """A command of the user: reads lines {"prompt", "first", "second"} and writes for each a number in [0, 1] or null.

    If it fails, or takes longer than `seconds` a pair, its pairs go one by one.
    """

    command: str
    seconds: float = SECONDS

    def __call__(self, problems: Sequence[Problem], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        pairs = list(zip(problems, first, second, strict=True))
        lines = [json.dumps({"prompt": p.prompt, "first": a, "second": b}) for p, a, b in pairs]
        answers = self._ask(lines)
        if answers is None and len(lines) > 1:
            answers = [(self._ask([line]) or [Failed()])[0] for line in lines]
        return answers or [Failed()]

    def _ask(self, lines: Sequence[str]) -> list[float | None] | None:
        """A label a line; None where it failed."""
        try:
            done = subprocess.run(
                shlex.split(self.command),
                input="".join(line + "\n" for line in lines),
                stdout=subprocess.PIPE,
                text=True,
                timeout=self.seconds * len(lines),
                start_new_session=True,  # Ctrl-C is for the run
            )
        except subprocess.TimeoutExpired:
            return None
        except OSError as error:
            raise BadTask(f"the command {self.command!r} cannot be run: {error}") from None
        said = done.stdout.splitlines()
        if done.returncode or len(said) != len(lines):
            return None
        return [_read(line) for line in said]


def _read(line: str) -> Any:
    """What a line of JSON says; its text, for the run to refuse, where it is none."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return line


class Labelled:
    """A task with another oracle; everything else is the task's own."""

    def __init__(self, task: Task, prefer: Prefer):
        self.task, self.prefer = task, prefer

    def __getattr__(self, name: str) -> Any:
        if name in ("task", "exact"):  # what is exact is so for the task's own labels
            raise AttributeError(name)
        return getattr(self.task, name)


def find_oracle(label: str) -> Prefer:
    """The oracle behind ``my_labels.py:prefer``, ``command:./judge --fast`` or ``model:runs/rm/model``."""
    kind, _, rest = label.partition(":")
    if kind == "command" and rest:
        return ByCommand(rest)
    if kind == "model" and rest:
        from .reward import ByModel

        return ByModel(rest)
    if kind.endswith(".py") and rest:
        return ByFunction(label)
    raise BadTask(f"--label {label!r}: give my_labels.py:prefer, command:... or model:folder of a reward model")
