"""`frugal new METHOD`: the files of a method, with four places to fill in, each marked TODO."""

from __future__ import annotations

from pathlib import Path

from .catalogue.index import cards
from .core.errors import BadRun
from .core.recipe import Domain
from .registry import bases, find

METHOD = '''"""TODO 1: one sentence of under 120 characters. The card says: {idea}

Changes      TODO 1: the part and its equation, in the code's own symbols
Source       {source}
Ours         TODO 1: every default that is ours and not the paper's, with the reason
Leans on     nothing
Experiment   experiments/{domain}/{name}.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING{any}

from frugal.core.recipe import Patch, patch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.{module} import {rows}

{named}NEUTRAL = {{"strength": 0.0}}  # at which the method is bit for bit its base; leave out if there are none


@dataclass(frozen=True)
class {part}:
    """TODO 2: what it computes, with shapes; `frugal show {base} --flat` lists the places and their signatures."""

    strength: float

    def __call__(self, {arguments}) -> Tensor:
        return self.strength * {value}


@patch
def {name}(strength: float = 1.0) -> Patch:
    """{title}."""
    return Patch(add={{"{place}": {part}(strength)}}{of_domain})
'''

TEST = '''"""{title}: its equation, by hand."""

from frugal.{domain}.methods.{name} import {part}
from tests.{by_hand_from}.rows import {maker}


def test_equation_by_hand():
    # TODO 3: a case small enough to compute by hand ({check})
    batch = {maker}({by_hand})
    assert {part}(strength=2.0)({call}).tolist() == {result}
'''

EXPERIMENT = '''"""TODO 4: the property of the task that the method exploits, and the paper's effect below."""

from frugal.evidence.experiment import Experiment

EXPERIMENT = Experiment(
    question="Does {slug} need fewer samples than {base}?",
    arms=("{base}", "{base}+{slug}"),
    task="{task}",
    samples={samples},
    expected="{expected}",
    search={{"lr": {rates}}},
)
'''

# what differs between the loops
LANGUAGE = {
    "module": "language.rows",
    "rows": "Rows",
    "arguments": "rows: Rows",
    "value": "rows.own.float()",
    "place": "credit.rewards",
    "any": "",
    "of_domain": "",
    "by_hand_from": "language",
    "maker": "rows",
    "by_hand": "scores=[1.0, 0.0], lengths=[2, 1]",
    "call": "batch",
    "result": "[[2.0, 2.0], [2.0, 0.0]]",
    "task": "modchain",
    "samples": "5120",
    "rates": "(2e-4, 4e-4, 8e-4)",
}
CONTROL = {
    "module": "control.batch",
    "rows": "Batch",
    "arguments": "batch: Batch",
    "value": "batch.valid.float()",
    "of_domain": ', domain="control"',
    "by_hand_from": "control",
    "by_hand": "rewards=[[1.0, 2.0], [3.0, 0.0]], lengths=[2, 1]",
    "task": "Pendulum-v1",
    "samples": "10_000",
    "rates": "(3e-4, 1e-3)",
}
PAIRS = {
    "module": "preference.pairs",
    "rows": "Pairs",
    "any": ", Any",
    "arguments": "now: Any, mini: Pairs",
    "value": "mini.y",
    "place": "learn.terms",
    "of_domain": ', domain="preference"',
    "by_hand_from": "preference",
    "maker": "pairs",
    "by_hand": "y=[1.0, 0.0], lengths=[2, 1, 1, 1]",
    "call": "None, batch",
    "result": "[2.0, 0.0]",
    "task": "pairs",
    "samples": "2048",
    "rates": "(4e-4, 1e-3, 2e-3)",
}
ROLLOUTS = {"of_domain": ', domain="preference"', "task": "rm-lab", "samples": "4096"}


def words(domain: Domain) -> dict[str, str]:
    """What a loop's files say."""
    if domain.name == "preference":
        return LANGUAGE | (PAIRS if domain.loop == "pairs" else ROLLOUTS)
    return LANGUAGE | (CONTROL if domain.name == "control" else {})


def lay_out(slug: str, base: str, root: Path) -> list[Path]:
    """Write method, test and experiment below `root`. Raises `BadRun` if one is there, `UnknownName` for a base.

    Without `base` it is the usual one of the domain that the card's family names.
    """
    family = cards()[slug].family if slug in cards() else ""
    base = base or next((d.base for d in (make().domain for make in bases().values()) if d.name == family), "grpo")
    if base not in bases():
        find(base)
    usual = bases()[base]().domain
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
        "domain": usual.name,
        "named": f'BASE = "{base}"  # that it is tested on\n' if base != usual.base else "",
        **words(usual),
    }
    files = {
        root / f"frugal/{usual.name}/methods/{name}.py": METHOD,
        root / f"tests/{usual.name}/methods/test_{name}.py": TEST,
        root / f"experiments/{usual.name}/{name}.py": EXPERIMENT,
    }
    if not (root / "frugal" / usual.name / "methods").is_dir():
        raise BadRun(f"{root.resolve()} is no checkout of frugal; go there, or name it with --root")
    if there := [str(path) for path in files if path.exists()]:
        raise BadRun(f"already there: {', '.join(there)}; nothing was written")
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.format(**facts))
    return list(files)
