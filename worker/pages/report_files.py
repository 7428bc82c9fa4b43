"""The forms of a report: a page for people, JSON and CSV for machines; and the line by which a file is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from worker.pages.csv_report import render_csv
from worker.pages.json_report import render_json
from worker.reports.batch_report.contents import Report, TokenLine


class Form(StrEnum):
    """A form of a report, which is also the suffix of its file."""

    HTML = "html"
    JSON = "json"
    CSV = "csv"


def render(form: Form, report: Report, read_tokens: Callable[[], Iterable[TokenLine]]) -> Iterator[str]:
    """Write the report piece by piece. `read_tokens` reads all tokens again, of which only the forms for machines have
    a line each."""
    match form:
        case Form.HTML:
            # Not at the top: otherwise every command would import Jinja, for what only this one does.
            from worker.pages.html_report import render_html

            return render_html(report)
        case Form.JSON:
            return render_json(report, read_tokens())
        case Form.CSV:
            return render_csv(read_tokens())


def write_checksum_line(sha256: str, name: str) -> str:
    """Write the line about a file that `sha256sum -c` reads. A name with a backslash or the end of a line in it is
    escaped, as a backslash in front tells:
    https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html"""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{sha256}  {escaped}\n"
