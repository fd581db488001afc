"""The report as Markdown: the record that is kept with the code."""

from __future__ import annotations

from collections.abc import Sequence

from .tables import Section, Table


def markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The sections as one text.

    Args:
        title: Of the text.
        lead: Below it.
        sections: In their order.

    Example:
        >>> table = Table(("arm", "x"), (("all-QAT", "< 2"),))
        >>> print(markdown("T", "made by hand", [Section("S", "", table)]))
        # T
        <BLANKLINE>
        made by hand
        <BLANKLINE>
        ## S
        <BLANKLINE>
        | arm | x |
        |---|---|
        | all-QAT | < 2 |
        <BLANKLINE>
    """
    parts = [f"# {title}", lead]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        if section.table is not None:
            parts.append(_table(section.table))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    rule = "|" + "---|" * len(table.headings)
    lines = [f"| {' | '.join(row)} |" for row in (table.headings, *table.rows)]
    return "\n".join([lines[0], rule, *lines[1:]])
