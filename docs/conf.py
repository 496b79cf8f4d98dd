"""How Sphinx builds the site; `make docs` does it."""

import re

from sphinx.application import Sphinx

from decision_policies import __version__

project = "decision_policies"
author = "the authors of decision_policies"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
myst_heading_anchors = 3

default_role = "code"  # docstrings write `names` as Markdown does
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}  # spelled out it takes six lines
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a NamedTuple's fields would be described twice
napoleon_custom_sections = ["Deviations"]


def show_tables(app: Sphinx, name: str, source: list[str]) -> None:
    """Lead links to the zoo's tables, which lie elsewhere, to the page that includes them."""
    source[0] = source[0].replace("(../zoo/RESULTS.md)", "(zoo_results.md)")


def escape(
    app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    """Escape the stars of shapes, (n, *action), and the bars of |x|: they are no markup here."""
    lines[:] = [re.sub(r"\*(?=[a-z]+[,)])|\|(?=\S)", r"\\\g<0>", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the two."""
    app.connect("source-read", show_tables)
    app.connect("autodoc-process-docstring", escape)
