"""Docstrings as this project writes them: `names` link where they are public, indented is code.

A public name is documented where users import it, for instance `fedhq.allocator.Budget`; signatures
name the module that holds it, `fedhq.allocator.terms.Budget`. Other types of ours are shown without
a link.
"""

import re
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import TypeAliasForwardRef

PACKAGES = (
    "fedhq.allocator",
    "fedhq.allocator.testing",
    "fedhq.allocator.instances",
    "fedhq.models",
    "fedhq.fl_core",
    "fedhq.fl_core.callbacks",
    "fedhq.fl_core.flower",
)
_NAME = re.compile(r"([A-Z]\w+|[a-z]\w*_\w*|solve)((\.\w+)?)(\(\))?")


def homes() -> dict[str, str]:
    """Public names and where they are documented; the first package that exports a name has it."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for name in getattr(import_module(package), "__all__", ()):
            found.setdefault(name, f"{package}.{name}")
    return found


HOMES = homes()


def public_role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Inliner
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Code, and a link if it is a public name or a member of one."""
    literal = nodes.literal(rawtext, text, classes=["xref"])
    match = _NAME.fullmatch(text)
    if match is None or match[1] not in HOMES:
        return [nodes.literal(rawtext, text)], []
    target = HOMES[match[1]] + match[2]
    reference = addnodes.pending_xref(
        rawtext, literal, refdomain="py", reftype="obj", reftarget=target, public=True
    )
    return [reference], []


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Finds a name of ours that signatures call by the module that holds it."""
    target = str(node["reftarget"])
    if node.get("refdomain") != "py" or node.get("public"):
        return content if node.get("public") else None
    name = target.rpartition(".")[2]
    if name in HOMES and (target.startswith("fedhq.") or target == name):
        domain = env.domains["py"]
        found = domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", HOMES[name], node, content
        )
        if found is not None:
            return found
    return None if "refexplicit" in node else content  # by a role: somebody wrote it


def name_of(alias: TypeAliasForwardRef) -> str:
    """The alias as users write it; Sphinx 9.0 shows, within a union, what holds the name."""
    return alias.name


def mark_code(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Makes code of what a docstring indents by four after a blank line, as in Markdown."""
    found: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        text = line.lstrip()
        starts = text and not before.strip() and len(line) - len(text) >= 4
        above = next((old for old in reversed(found) if old.strip()), " ")
        if starts and not above.startswith((" ", "..")) and not text.startswith(">>>"):
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the role `public`, the search for names, and the text of aliases."""
    app.add_role("public", public_role)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
    TypeAliasForwardRef.__repr__ = name_of
    return {"parallel_read_safe": True, "parallel_write_safe": True}
