"""Formulas as MathML, written while the site is built: no script, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOG = logging.getLogger(__name__)
_NOT_UNDERSTOOD = re.compile(r"\\[a-zA-Z]+|&(?!#|amp;|lt;|gt;)")


def mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """A formula as MathML; warns if the converter leaves any of it as it stands."""
    formula = node.astext().replace("{aligned}", "{align*}")  # the name that the converter knows
    found = convert(formula, display=display)
    if left := _NOT_UNDERSTOOD.search(found):
        _LOG.warning("the converter does not know %r in a formula", left[0], location=node)
    return found


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own, which scrolls where the screen is narrow."""
    writer.body.append(f'<div class="formula">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
