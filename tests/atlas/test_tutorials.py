"""The tutorials run as they are written: files are saved, Python is executed, commands are called."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from frugal.cli import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([DOCS / "index.md", *DOCS.glob("tutorials/*.md")])
BLOCK = re.compile(
    r"^```(?:\{code-block\} python\n:caption: (\S+)\n|(python|sh)\n)(.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path) -> list[tuple[str | None, str | None, str, int]]:
    """(file, language, code, line) of every block that a reader saves (it has a file) or runs (a language)."""
    text = page.read_text("utf-8")
    return [(*found.groups(), text.count("\n", 0, found.start(3))) for found in BLOCK.finditer(text)]


def test_the_pages_and_their_blocks_were_found():
    assert [page.stem for page in PAGES] == ["index", "own_model", "own_patch", "own_task", "report"]
    texts = [page.read_text("utf-8") for page in PAGES]
    begun = sum(len(re.findall(r"^```(python|sh|\{code-block\})", text, re.MULTILINE)) for text in texts)
    assert sum(len(blocks(page)) for page in PAGES) == begun > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {"__name__": "__main__"}
    for file, language, code, line in blocks(page):
        if file:
            Path(file).write_text(code)
        elif language == "python":
            exec(compile("\n" * line + code, str(page), "exec"), names)
        for command in code.replace("\\\n", "").splitlines() if language == "sh" else ():
            monkeypatch.setattr(sys, "argv", shlex.split(command))
            main()
    assert capsys.readouterr().out
