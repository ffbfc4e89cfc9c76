"""`frugal new METHOD`: the files of a method, with four places to fill in, each marked TODO."""

from __future__ import annotations

from pathlib import Path

from .catalogue.index import cards
from .core.errors import BadRun
from .registry import bases, find

METHOD = '''"""TODO 1: one sentence of under 120 characters. The card says: {idea}

Changes      TODO 1: the part and its equation, in the code's own symbols
Source       {source}
Ours         TODO 1: every default that is ours and not the paper's, with the reason
Leans on     nothing
Experiment   experiments/language/{name}.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.rows import Rows

NEUTRAL = {{"strength": 0.0}}  # the arguments at which the method is bit for bit its base; leave out if there are none


@dataclass(frozen=True)
class {part}:
    """TODO 2: what it computes, with shapes; `frugal show {base} --flat` lists the places and their signatures."""

    strength: float

    def __call__(self, rows: Rows) -> Tensor:
        return self.strength * rows.own.float()


@patch
def {name}(strength: float = 1.0) -> Patch:
    """{title}."""
    return Patch(add={{"credit.rewards": {part}(strength)}})
'''

TEST = '''"""{title}: its equation, by hand."""

from frugal.language.methods.{name} import {part}
from tests.language.rows import rows


def test_equation_by_hand():
    # TODO 3: a case small enough to compute by hand ({check})
    batch = rows(scores=[1.0, 0.0], lengths=[2, 1])
    assert {part}(strength=2.0)(batch).tolist() == [[2.0, 2.0], [2.0, 0.0]]
'''

EXPERIMENT = '''"""TODO 4: the property of the task that the method exploits, and the paper's effect below."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does {slug} need fewer samples than {base}?",
    arms=("{base}", "{base}+{slug}"),
    task="modchain",
    samples=5120,
    expected="{expected}",
    search={{"lr": (2e-4, 4e-4, 8e-4)}},
)
'''


def lay_out(slug: str, base: str, root: Path) -> list[Path]:
    """Write method, test and experiment below `root`. Raises `BadRun` if one is there, `UnknownName` for a base."""
    if base not in bases():
        find(base)
    if not slug.replace("-", "_").isidentifier() or slug != slug.lower():
        raise BadRun(f"{slug!r} cannot be a method's name; use lower-case words joined by -")
    name, card = slug.replace("-", "_"), cards().get(slug)
    facts = {
        "slug": slug,
        "name": name,
        "base": base,
        "part": "".join(word.capitalize() for word in slug.split("-")),
        "title": card.title if card else slug,
        "idea": card.idea if card else "TODO: what it does, in one line.",
        "source": f"{card.title}, {card.year}, arXiv {card.arxiv}; TODO section or equation" if card else "TODO",
        "expected": card.headline.replace('"', "'") if card else "TODO",
        "check": "see the paper's own limits and examples",
    }
    files = {
        root / f"frugal/language/methods/{name}.py": METHOD,
        root / f"tests/language/methods/test_{name}.py": TEST,
        root / f"experiments/language/{name}.py": EXPERIMENT,
    }
    if not (root / "frugal" / "language" / "methods").is_dir():
        raise BadRun(f"{root.resolve()} is no checkout of frugal; go there, or name it with --root")
    for path in files:
        if path.exists():
            raise BadRun(f"{path} is already there; nothing was written")
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.format(**facts))
    return list(files)
