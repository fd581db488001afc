"""The directive `command-help`: what a command of fedhq says of itself."""

import contextlib
import io
import os
import shlex
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from fedhq.studies.entry import main


class CommandHelp(Directive):
    """Shows the help of the command that is its argument, for instance `run`; of all without."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The help as a literal block."""
        said, words = io.StringIO(), shlex.split(" ".join(self.arguments))
        with (
            contextlib.redirect_stdout(said),
            contextlib.suppress(SystemExit),
            mock.patch.dict(os.environ, COLUMNS="88"),
        ):
            main([*words, "--help"])
        if not said.getvalue():
            raise self.error(f"`fedhq {shlex.join(words)} --help` says nothing.")
        text = said.getvalue()
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
