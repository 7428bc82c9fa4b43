"""`oathbulk formats`: which files are read."""

from __future__ import annotations

from rich.table import Table

from worker.cli.console import console, print_json
from worker.cli.options import AsJson
from worker.intake.formats import FORMATS


def formats(as_json: AsJson = False) -> None:
    """List the file formats that are read."""
    if as_json:
        print_json({"formats": [{"name": each.name, "title": each.title} for each in FORMATS.values()]})
        return
    table = Table("format", "what it is, and who writes such files", box=None, pad_edge=False)
    for each in FORMATS.values():
        table.add_row(each.name, each.title)
    console.print(table)
