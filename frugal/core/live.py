"""A recipe at work in one run: parts that learn or remember, joined where there are many, with notes on their effect.

The loop calls `live.advantage(...)`, `live.rewards(...)`; what the patches changed is gathered here, in one place.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from functools import reduce
from typing import Any

from .recipe import One, Recipe


class NotFinite(Exception):
    """What a part said, or the gradient, is NaN or infinite; in these of the rows."""

    def __init__(self, path: str, rows: Any, where: Any = None):
        super().__init__(path)
        self.path, self.rows = path, rows if where is None else rows.take(where)


class Live:
    """The parts of `recipe` for one run, by the last word of their place (``credit.advantage`` -> `advantage`)."""

    def __init__(self, recipe: Recipe, run: Any):
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._layers: dict[str, Any] = {}  # every live part, and under "path.inner" what a wrapper wraps
        self.parts = {path: self._begin(path, part, run) for path, part in recipe.parts.items()}
        self._watching = [part for part in self._layers.values() if hasattr(part, "observe")]
        for place, kind in recipe.domain.slots.items():
            question, name = place.split(".")
            number = question in recipe.domain.checked
            if isinstance(kind, One):
                setattr(self, name, Checked(place, self.parts[place]) if number else self.parts[place])
            else:
                owners = {path: part for path, part in self.parts.items() if path.startswith(place + ".")}
                if number:
                    owners = {path: Checked(path, part) for path, part in owners.items()}
                setattr(self, name, Joined(kind.join, owners, self._note))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this loop has no part {name!r}")

    def learn(self, batch: Any) -> None:
        """Let every part that learns see the finished round."""
        for part in self._layers.values():
            if hasattr(part, "learn"):
                part.learn(batch)

    def observe(self, step: Any) -> None:
        """Let every part that watches the environment see its newest step."""
        for part in self._watching:
            part.observe(step)

    def report(self) -> dict[str, float]:
        """{path: mean output since the last report}: the share that a mask kept, the mean of a weight or reward, the
        number of rows that an owner of a union added; and under "path.name" what a part itself reports."""
        means = {path: self._sums[path] / n for path, n in self._counts.items() if n}
        for path, part in self._layers.items():
            if hasattr(part, "report"):
                means |= {f"{path}.{name}": number for name, number in part.report().items()}
        self._sums.clear()
        self._counts.clear()
        return means

    def state_dict(self) -> dict[str, Any]:
        """{path/key: tensor or JSON-ready value} of every part that remembers."""
        return {
            f"{path}/{key}": value
            for path, part in self._layers.items()
            if hasattr(part, "state_dict")
            for key, value in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for path, part in self._layers.items():
            if hasattr(part, "load_state_dict"):
                part.load_state_dict({k[len(path) + 1 :]: v for k, v in state.items() if k.startswith(path + "/")})

    def _begin(self, path: str, part: Any, run: Any) -> Any:
        """The live form of a part; a wrapper's inner part begins first, and learns and is saved on its own."""
        if getattr(part, "inner", None) is not None:
            part = dataclasses.replace(part, inner=self._begin(path + ".inner", part.inner, run))
        self._layers[path] = part.begin(run) if hasattr(part, "begin") else part
        return self._layers[path]

    def _note(self, path: str, value: Any, where: Any) -> None:
        if isinstance(value, dict):  # how episodes begin: lists with an entry for each, None for the usual
            value = [x for x in next(iter(value.values()), ()) if x is not None]
        if not hasattr(value, "detach"):
            self._sums[path] += len(value) if hasattr(value, "__len__") else value or 0
            self._counts[path] += 1
            return
        value = value.detach().float()
        if where is not None and where.shape == value.shape:
            value = value[where]
        value = value[value != float("-inf")]  # log-weights of what is never drawn
        self._sums[path] += float(value.sum())
        self._counts[path] += value.numel()


class Checked:
    """A part that is called with rows, and has to say a number at each of their own positions."""

    def __init__(self, path: str, part: Any):
        self.path, self.part = path, part

    def __call__(self, *inputs: Any) -> Any:
        value = self.part(*inputs)
        if hasattr(value, "isfinite") and not value.isfinite().all():
            rows = inputs[-1]
            wrong = (rows.own & ~value.isfinite()).any(1)
            if wrong.any():
                raise NotFinite(self.path, rows, wrong)
        return value


class Joined:
    """The owners of a Many, called as one; each owner's mean output is noted."""

    IDENTITY = {"sum": 0.0, "product": 1.0, "all": True}
    OPERATION = {"sum": lambda a, b: a + b, "product": lambda a, b: a * b, "all": lambda a, b: a & b}

    def __init__(self, join: str, owners: dict[str, Any], note: Any):
        self.join, self.owners, self.note = join, owners, note

    def __bool__(self) -> bool:
        return bool(self.owners)

    def __call__(self, *inputs: Any) -> Any:
        where = getattr(inputs[-1], "use", None)
        outputs = []
        for path, part in self.owners.items():
            outputs.append(part(*inputs))
            if getattr(part, "unnoted", False):
                continue
            self.note(path, outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1], where)
        if self.join == "union":
            return outputs
        if not outputs:
            return self.IDENTITY[self.join]
        return reduce(self.OPERATION[self.join], outputs)
