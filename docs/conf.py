"""Sphinx: tutorials, and the reference from docstrings. Built with the atlas: ``frugal atlas --out site``."""

import re

from sphinx.application import Sphinx

import frugal
from frugal.registry import bases, methods

project, author, release = "Frugal", "the authors of Frugal", frugal.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = ["index.md", "tutorials/*", "reference/*"]

default_role = "code"
smartquotes = False
add_module_names = False
python_maximum_signature_line_length = 120
autodoc_class_signature, autodoc_default_options = "separated", {"exclude-members": "__init__"}
autodoc_member_order = "bysource"
# they take seconds to import, and nothing of theirs shows
autodoc_mock_imports = ["transformers", "scipy", "matplotlib", "pyarrow"]

html_theme = "furo"
html_title = "Frugal"
html_show_copyright = False
html_theme_options = {
    "announcement": "the links of _templates/page.html",
    "light_css_variables": {
        "font-stack": 'Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif',
        "font-stack--monospace": 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
        "color-brand-primary": "#14606a",
        "color-brand-content": "#14606a",
        "color-background-primary": "#fcfbf8",
        "color-background-secondary": "#f4f2ec",
        "color-announcement-background": "#fcfbf8",
        "color-announcement-text": "#1d1c1a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#74c7cf",
        "color-brand-content": "#74c7cf",
        "color-background-primary": "#15171a",
        "color-background-secondary": "#1d2024",
        "color-announcement-background": "#15171a",
        "color-announcement-text": "#e9e6df",
    },
}
html_copy_source = False
html_show_search_summary = False  # it is fetched, which a browser refuses without a server
templates_path, html_static_path, html_css_files = ["_templates"], ["_static"], ["atlas.css"]
html_favicon = "../frugal/atlas/static/icon.svg"

SECTION = """
## {name}

```{{eval-rst}}
.. autofunction:: {address}

{link}
```
"""
IN_THE_ATLAS = "`{name} in the atlas <../../system/{name}.html>`__"


def functions(_: Sphinx, page: str, source: list[str]) -> None:
    """Append a section for each base, or each method, to its page."""
    if page == "reference/recipes":
        for name, function in bases().items():
            source[0] += SECTION.format(name=name, address=f"{function.__module__}.{function.__name__}", link="")
    elif page == "reference/methods":
        for name, module in methods().items():
            address = f"{module}.{name.replace('-', '_')}"
            source[0] += SECTION.format(name=name, address=address, link=IN_THE_ATLAS.format(name=name))


def returns(_: Sphinx, what: str, name: str, base: object, options: object, signature: str, result: str) -> tuple:
    """The decorator of a base makes its patch a recipe."""
    return signature, "Recipe" if base in bases().values() else result


def plain(_: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]) -> None:
    """In a docstring |A| is an absolute value and x_ a letter, no markup; what stands in backticks is left alone."""
    markup = re.compile(r"(`+).*?\1|\||_(?!\w)")
    lines[:] = [markup.sub(lambda found: found[0] if found[1] else "\\" + found[0], line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("source-read", functions)
    app.connect("autodoc-process-signature", returns)
    app.connect("autodoc-process-docstring", plain)
