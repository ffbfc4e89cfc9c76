"""`maths.name` finds every function, each belongs to one module, and each has a test of its own."""

import importlib
from pathlib import Path

import pytest

from frugal import maths

NAMES = {name: module for module in maths.MODULES for name in importlib.import_module(f"frugal.maths.{module}").__all__}


def test_every_module_is_listed_and_every_name_is_found():
    files = {path.stem for path in Path(maths.__file__).parent.glob("[!_]*.py")}
    assert files == set(maths.MODULES)
    assert len(NAMES) >= 14 and len(NAMES) == sum(
        len(importlib.import_module(f"frugal.maths.{module}").__all__) for module in maths.MODULES
    )
    for name in NAMES:
        assert getattr(maths, name).__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_tested_and_says_what_it_computes(name):
    assert f"maths.{name}" in (Path(__file__).parent / f"test_{NAMES[name]}.py").read_text()
    assert getattr(maths, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"frugal\.maths has no 'gea'"):
        maths.gea  # noqa: B018
