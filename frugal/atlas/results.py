"""Committed results: read and checked. What a file has beyond the fields named here is passed on as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugal.core.errors import FrugalError
from frugal.core.stages import as_stages
from frugal.registry import methods, recipe_or_stages

Result = Mapping[str, Any]
COMBINATIONS = "combinations"  # a file beside the results, of `frugal combine`

OF_A_RESULT = {"arms": list, "grid": list, "statistics": dict, "versions": dict}
OF_A_MATRIX = {"task": str, "command": str, "base": str, "alone": dict, "pairs": list}
OF_AN_ARM = {"recipe": str, "curves": list, "final": list, "ledger": dict, "patches": dict}


class BadResult(FrugalError, ValueError):
    """A file of results that cannot be read as one."""


def read_all(folder: Path) -> dict[str, Result]:
    """{slug: result} of every file ``folder/<domain>/<slug>.json``. Raises `BadResult`, naming the file."""
    return {path.stem: read(path) for path in sorted(folder.glob("*/*.json")) if path.stem != COMBINATIONS}


def read_combinations(folder: Path) -> list[Any]:
    """What ``folder/<domain>/combinations.json`` hold, a matrix a task. Raises `BadResult`, naming the file."""
    found: list[Any] = []
    for path in sorted(folder.glob(f"*/{COMBINATIONS}.json")):
        try:
            tasks = json.loads(path.read_text("utf-8"))
            _expect("the file", tasks, list)
            for i, task in enumerate(tasks):
                _expect(f"[{i}]", task, dict)
                _expect_fields(f"[{i}].", task, OF_A_MATRIX)
        except (OSError, ValueError) as error:
            raise BadResult(f"{path} holds no combinations: {error}; make it again with: frugal combine") from None
        found += tasks
    return found


def read(path: Path) -> Result:
    """The result in a file; no field is required but the recipe of an arm."""
    try:
        found = json.loads(path.read_text("utf-8"))
        _expect("the file", found, dict)
        _expect_fields("", found, OF_A_RESULT)
        for i, arm in enumerate(found.get("arms", [])):
            _expect(f"arms[{i}]", arm, dict)
            _expect(f"arms[{i}].recipe", arm.get("recipe"), str)
            _expect_fields(f"arms[{i}].", arm, OF_AN_ARM)
            for curve in arm.get("curves", []):
                _expect(f"a curve of arms[{i}]", curve, list)
                if len(curve) != len(found.get("grid", [])):
                    raise ValueError(f"a curve of arms[{i}] and the grid differ in length")
        for value in [*found.get("grid", []), *_points(found)]:
            _expect("a point of grid or curves", value, (int, float, type(None)))
    except (OSError, ValueError) as error:
        raise BadResult(f"{path} is no result: {error}; make it again with: frugal prove {path.stem}") from None
    return found  # type: ignore[no-any-return]


def combined(result: Result) -> list[str]:
    """The built methods of the recipe that is judged, the second arm; none where it is of another version."""
    try:
        stages = as_stages(recipe_or_stages(result["arms"][1]["recipe"])).stages
    except (KeyError, IndexError, FrugalError):
        return []
    return sorted({patch.name for stage in stages for patch in stage.recipe.patches} & methods().keys())


def _points(result: Result) -> list[Any]:
    return [value for arm in result.get("arms", []) for curve in arm.get("curves", []) for value in curve]


def _expect_fields(where: str, row: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name in kinds.keys() & row.keys():
        _expect(where + name, row[name], kinds[name])


def _expect(what: str, value: Any, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {str(value)[:40]!r}, not {getattr(kind, '__name__', 'a number')}")
