"""The documentation site: `make docs` builds it, strictly, from the pages here.

The pages stay plain Markdown, which a code host shows too. What Sphinx needs besides,
which page stands where, is said here; pages on the API, the commands and the zoo are
written by docs/pages.py on each build.
"""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from pages import write_pages

project = "fewshot_automl"
author = "the authors of fewshot_automl"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
root_doc = "index"

html_theme = "furo"
html_title = "fewshot_automl"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["focus.js"]
highlight_language = "none"  # of code without one: commands, and what they print

myst_heading_anchors = 4
myst_links_external_new_tab = False
default_role = "code"  # docstrings put names between single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["mlflow"]  # an extra, which a module for MLflow imports
autodoc_default_options = {
    "members": True,
    # Those that a package takes from its modules are shown in these.
    "ignore-module-all": True,
    # What scikit-learn adds to its estimators.
    "exclude-members": "set_fit_request, set_score_request",
}
napoleon_custom_sections = ["Source"]
# Names of other libraries, and axes of arrays, which are no names.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!fewshot_automl\.).*"),
    (r"py:class", r"fewshot_automl\..*\.(T|Made)"),  # type variables
]

CONTENTS = {
    "Tutorials": ("tutorial", "tutorial-images"),
    "How to": ("how-to", "tracking", "data", "hardware", "clusters"),
    "Explanation": ("explanation", "benchmarks"),
    "Reference": ("reference", "pages/zoo"),
    "Commands": ("pages/commands/*",),
    "Python": ("pages/api/*",),
    "Decisions": ("decisions/*",),
}
"""What the index leads to; Sphinx calls it a toctree."""


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Add to the index what each page below it is."""
    if name != "index":
        return
    for title, pages in CONTENTS.items():
        words = "\n".join(pages)
        options = f":hidden:\n:glob:\n:caption: {title}"
        source[0] += f"\n```{{toctree}}\n{options}\n\n{words}\n```\n"


def keep_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep napoleon from reading what stands before a colon as a type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # a comment, which it takes for the first line


def add_level(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Say of the headings in the sidebar which level they are, for screen readers."""
    tree = context.get("furo_navigation_tree", "")
    heading = 'role="heading"'
    context["furo_navigation_tree"] = tree.replace(heading, f'{heading} aria-level="2"')


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    write_pages(Path(app.srcdir) / "pages")
    app.connect("source-read", add_contents)
    app.connect("html-page-context", add_level, priority=900)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
