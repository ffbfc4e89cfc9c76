"""The light half imports without the heavy one, quickly, and every layer knows only those below it."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "scipy", "pyarrow", "matplotlib", "gymnasium"}


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import frugal",
        "import frugal; frugal.recipe('grpo+ead+capo')",
        "import frugal; r = frugal.recipe('grpo(lr=linear(1e-4,0))+ead+lp-reg'); r.check(), r.as_data(), r.needs()",
        "from frugal.registry import bases, recipe; assert bases(); [recipe(name) for name in bases()]",
        "from frugal.registry import find, methods; assert methods(); [find(name) for name in methods()]",
        "from frugal.catalogue.index import cards; assert cards(); [card.status for card in cards().values()]",
        "import frugal.core.recipe, frugal.core.text, frugal.core.schedule, frugal.core.errors, frugal.core.run",
        "import frugal.maths, frugal.lazy, frugal.api",
        "from frugal.preference.tasks import BUILT_IN; [t().problems('test') for t in BUILT_IN.values()]",
    ],
)
def test_nothing_heavy_is_imported(code):
    loaded = json.loads(run(f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert "frugal" in loaded
    assert HEAVY & set(loaded) == set()


def test_the_check_above_sees_what_is_loaded():
    assert "True" in run("import sys; from frugal import maths; maths.gae; print('torch' in sys.modules)")


def test_frugal_imports_in_a_third_of_a_second():
    code = "import time; began = time.perf_counter(); import frugal; print(time.perf_counter() - began)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def test_every_import_contract_holds():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(contracts)} kept, 0 broken" in done.stdout and len(contracts) >= 5
