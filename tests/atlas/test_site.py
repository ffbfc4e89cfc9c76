"""The built site: no dead link, a page for every card, text that cannot become markup, nothing from elsewhere."""

import re
import runpy
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from frugal.atlas import build as module
from frugal.atlas import documentation
from frugal.atlas.build import build
from frugal.atlas.results import BadResult
from frugal.catalogue.index import cards
from frugal.core.errors import BadRun, RunFailed
from frugal.core.recipe import QUESTIONS
from frugal.registry import methods
from tests.atlas import samples

WITH_DOCS = documentation.missing() is None


class Page(HTMLParser):
    """Names, links, loaded files, headings and text of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loads, self.headings, self.texts = set(), [], [], [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loads += [values[name] for name in ("href", "src") if name in values and tag != "a"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def pages(site):
    """{path in the site: Page}"""
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_every_card_has_a_page_and_a_line(pages):
    assert len(cards()) == 248
    assert {path for path in pages if path.startswith("system/")} == {f"system/{slug}.html" for slug in cards()}
    for slug, card in cards().items():
        page = pages[f"system/{slug}.html"]
        assert f"system/{slug}.html" in pages["index.html"].links
        for text in (card.title, card.idea, card.headline):
            assert " ".join(text.split()) in page.text, slug
        assert card.arxiv is None or f"https://arxiv.org/abs/{card.arxiv}" in page.links


def test_no_dead_link(pages, site):
    links = [(path, link) for path, page in pages.items() for link in page.links + page.loads]
    dead = []
    for path, link in links:
        there = urlsplit(urljoin(path, link))
        if there.scheme:
            continue
        target, anchor = unquote(there.path) or path, unquote(there.fragment)
        known = pages.get(target)
        if not (site / target).is_file() or (anchor and known and anchor not in known.ids):
            dead.append((path, link))
    assert dead == [] and len(links) > 3000


def test_every_page_can_be_reached_from_the_first(pages):
    seen, waiting = set(), ["index.html"]
    while waiting:
        path = waiting.pop()
        if path in pages and path not in seen:
            seen.add(path)
            waiting += [urlsplit(urljoin(path, link)).path for link in pages[path].links]
    generated = {f"docs/{name}.html" for name in ("genindex", "py-modindex", "search")}
    assert pages.keys() - seen <= generated


def test_nothing_is_loaded_from_elsewhere(pages, site):
    addresses = {urlsplit(load).scheme for page in pages.values() for load in page.loads}
    assert addresses <= {"", "data"}
    for path in [*site.rglob("*.css"), *(site / "static").glob("*.js")]:
        assert not re.search(r"url\(['\"]?(https?:)?//|@import|fetch\(", path.read_text("utf-8")), path


def test_one_first_heading_and_no_level_left_out(pages):
    atlas = {path: page for path, page in pages.items() if not path.startswith("docs/")}
    assert len(atlas) == 251
    for path, page in atlas.items():
        assert page.headings[0] == 1 and page.headings.count(1) == 1, path
        assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False)), path


def test_filters_count_the_cards(pages):
    text = pages["index.html"].text
    for question in QUESTIONS:
        assert f"{question} ({sum(question in card.changes for card in cards().values())})" in text
    assert f"built ({len(methods())})" in text and "holds (1)" in text and "not shown (1)" in text


def test_a_methods_page_has_equation_options_commands_combinations_and_evidence(pages, site):
    page = pages["system/ead.html"]
    for words in (
        "tau_t = max(1 + hot - exp(t / d_s), cold)",
        "frugal run grpo+ead modchain",
        "reached 0.95 of grpo's gain with <b>1.6x</b> fewer samples: holds.",
        "1.6× [1.1, 2.3], p 0.031",
        "2 of 2, the baseline's 2 of 2",
        "0.8 [0.6, 0.9]",
        "the baseline has not levelled off",
        "gradient steps 32.5",
        "makes act.temperature dead",
    ):
        assert words in page.text
    assert {"capo.html", "../proved.html#ead-and-capo"} <= set(page.links)
    html = (site / "system/ead.html").read_text("utf-8")
    assert html.count("<polyline") == 6 and 'role="img" aria-label="Learning curves, held-out' in html
    assert "Not run yet" in pages["system/capo.html"].text


def test_a_planned_method_and_a_survey_say_so(pages):
    assert "frugal new rmt" in pages["system/rmt.html"].text
    survey = next(card for card in cards().values() if card.kind == "survey")
    assert "This survey is in the catalogue and planned." in pages[f"system/{survey.slug}.html"].text


def test_what_is_proved_together(pages):
    page = pages["proved.html"]
    assert "ead-and-capo" in page.ids and "#ead-and-capo" in page.links
    assert re.search(r"Built, not run yet: [^.]*\bcapo\b", page.text)
    order = ["Proved together", "capo + ead", "One by one", "lp-reg"]
    assert re.search(".*".join(map(re.escape, order)), page.text)


def test_which_gains_add_up(site, pages):
    text = pages["combinations.html"].text
    for words in (
        "target held-out greedy accuracy 0.69, 0.95 of the base's gain",
        "ead 1.5× [1.1, 2]",
        "2.4× 1.2× expected; compound",
        "clash",
        "frugal combine 'grpo(prompts=4)' ead capo --on modchain",
        "countdown",
        "The base does not rise here",
    ):
        assert words in text
    html = (site / "combinations.html").read_text("utf-8")
    assert html.count('class="gain" style="--share: 35%"') == 2, "a pair stands in both rows, 40 ln 2.4 strong"
    assert 'title="both fill &lt;learn.keep&gt;"' in html and 'class="loss" style="--share: 9%"' in html


def test_text_is_escaped(site):
    html = (site / "system/ead.html").read_text("utf-8")
    assert "&lt;b&gt;1.6x&lt;/b&gt;" in html and "<b>1.6x" not in html


@pytest.mark.skipif(not WITH_DOCS, reason=f"no documentation: {documentation.missing()}")
def test_atlas_and_documentation_link_to_each_other(pages):
    assert "docs/index.html" in pages["index.html"].links
    assert "../index.html" in pages["docs/index.html"].links
    assert "../../index.html" in pages["docs/tutorials/own_task.html"].links
    for slug, name in methods().items():
        address = f"{name}.{name.rpartition('.')[2]}"
        assert f"../docs/reference/methods.html#{address}" in pages[f"system/{slug}.html"].links
        assert address in pages["docs/reference/methods.html"].ids
        assert f"../../system/{slug}.html" in pages["docs/reference/methods.html"].links


@pytest.mark.skipif(not WITH_DOCS, reason=f"no documentation: {documentation.missing()}")
def test_every_public_name_is_documented(pages):
    from frugal import maths
    from frugal.registry import bases

    ids = set().union(*(page.ids for path, page in pages.items() if path.startswith("docs/reference/")))
    wanted = {f"frugal.{name}" for name in __import__("frugal").__all__}
    wanted |= {f"{function.__module__}.{function.__name__}" for function in bases().values()}
    for name in maths.MODULES:
        public = __import__(f"frugal.maths.{name}", fromlist=["__all__"]).__all__
        wanted |= {f"frugal.maths.{name}.{function}" for function in public}
    assert wanted - ids == set() and len(wanted) > 25


@pytest.mark.skipif(not WITH_DOCS, reason=f"no documentation: {documentation.missing()}")
def test_mathematics_in_a_docstring_is_no_markup():
    lines = ["|A| > x_, `|a|` and ``b_``, A_{t+1}"]
    runpy.run_path(str(documentation.SOURCE / "conf.py"))["plain"](None, "", "", None, None, lines)
    assert lines == [r"\|A\| > x\_, `|a|` and ``b_``, A\_{t+1}"]


# -- building ---------------------------------------------------------------------------------------------------


@pytest.fixture
def without_docs(monkeypatch):
    monkeypatch.setattr(documentation, "NEEDS", ("a_package_that_is_not_there",))


def written(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_sphinx_the_atlas_is_built_and_says_how_to_add_the_documentation(tmp_path, without_docs):
    said = build(tmp_path / "site", tmp_path / "no-results")
    assert said[0].endswith("248 systems, 0 results") and 'pip install "frugal-rl[docs]"' in said[1]
    page = Page(tmp_path / "site" / "index.html")
    assert not any("docs/" in link for link in page.links)
    assert "No combination has been run yet" in Page(tmp_path / "site" / "proved.html").text
    assert "frugal combine" in Page(tmp_path / "site" / "combinations.html").text


def test_building_twice_gives_the_same_bytes(tmp_path, without_docs):
    results = samples.write(tmp_path / "results")
    build(tmp_path / "site", results)
    first = written(tmp_path / "site")
    build(tmp_path / "site", results)
    assert written(tmp_path / "site") == first and len(first) == 254


def test_a_damaged_result_stops_before_anything_is_written(tmp_path, without_docs):
    results = samples.write(tmp_path / "results")
    (results / "language" / "ead.json").write_text("{")
    with pytest.raises(BadResult, match=r"ead\.json"):
        build(tmp_path / "site", results)
    assert not (tmp_path / "site").exists()


def test_a_result_of_another_version_is_shown_as_far_as_it_goes(tmp_path, without_docs):
    thin = {"ead": {"verdict": "holds", "arms": [{"recipe": "grpo"}, {"recipe": "grpo+of-yesterday"}]}, "capo": {}}
    build(tmp_path / "site", samples.write(tmp_path / "results", thin))
    assert "2025 not run" in Page(tmp_path / "site" / "system" / "capo.html").text
    assert "grpo+of-yesterday" in Page(tmp_path / "site" / "system" / "ead.html").text


def test_without_a_target_there_is_no_ratio(tmp_path, without_docs):
    flat = samples.ALL["ead"] | {"statistics": samples.ALL["ead"]["statistics"] | {"target": None}}
    build(tmp_path / "site", samples.write(tmp_path / "results", {"ead": flat}))
    for path in ("proved.html", "system/ead.html"):
        assert "1.6×" not in Page(tmp_path / "site" / path).text


def test_a_file_in_the_way_is_named(tmp_path, without_docs):
    (tmp_path / "site").write_text("")
    with pytest.raises(BadRun, match="is a file"):
        build(tmp_path / "site", tmp_path)


def test_a_mistake_in_the_documentation_is_shown(tmp_path, monkeypatch):
    if not WITH_DOCS:
        pytest.skip(f"no documentation: {documentation.missing()}")
    (tmp_path / "conf.py").write_text("")
    (tmp_path / "index.rst").write_text("No title, and a :doc:`dead link`\n")
    monkeypatch.setattr(documentation, "SOURCE", tmp_path)
    with pytest.raises(RunFailed, match="dead link"):
        documentation.build(tmp_path / "out")


def test_the_atlas_needs_no_torch(tmp_path):
    code = f"""
import sys
from frugal.atlas import build, documentation
documentation.NEEDS = ("a_package_that_is_not_there",)
build.build({str(tmp_path)!r})
print(sorted({{"torch", "transformers", "numpy", "scipy", "matplotlib"}} & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


# -- colours ----------------------------------------------------------------------------------------------------

COLOURS = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", (module.HERE / "static/style.css").read_text())


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [1, 2], ids=["light", "dark"])
def test_text_has_enough_contrast_and_curves_too(scheme):
    value = {row[0]: luminance(row[scheme]) for row in COLOURS}
    wanted = defaultdict(lambda: 4.5) | {f"arm{i}": 3.0 for i in range(6)}
    for name in value.keys() - {"paper", "raised", "line"}:
        for ground in ("paper", "raised"):
            high, low = sorted([value[name], value[ground]], reverse=True)
            assert (high + 0.05) / (low + 0.05) >= wanted[name], (name, ground)
    assert len(value) == 14
