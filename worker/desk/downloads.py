"""Files about a batch to keep: its report in each form, and its dead letters. Nothing in them is secret."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from models.record_states import Status
from worker.desk.desk import Desk
from worker.desk.doors import Visitor
from worker.desk.views import read_status
from worker.pages.report_files import Form, render
from worker.reports.batch_report.reading import open_snapshot, read_report, read_tokens
from worker.reports.export import export

_MEDIA_TYPES = {Form.HTML: "text/html", Form.JSON: "application/json", Form.CSV: "text/csv"}
# What a file's name may not have; a browser would change it, each in its own way.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


def download_report(desk: Desk, _: Visitor, request: Request) -> Response:
    """Answer with the report of a batch, in the form that the request names. Raises UnknownBatch."""
    name = read_status(desk, request).name
    known = request.query_params.get("form") in [*Form]
    form = Form(request.query_params["form"]) if known else Form.HTML
    return StreamingResponse(
        _write_report(desk, name, form), headers=_name_file(f"{name}.{form}"), media_type=_MEDIA_TYPES[form]
    )


def _write_report(desk: Desk, name: str, form: Form) -> Iterator[str]:
    with open_snapshot(desk.installation.database) as connection:
        report = read_report(desk.installation.database, connection, name)
        yield from render(form, report, lambda: read_tokens(connection, name))


def download_dead_letters(desk: Desk, _: Visitor, request: Request) -> Response:
    """Answer with the dead letters of a batch as CSV, without OTPs: mended, it can be loaded again. Raises
    UnknownBatch."""
    name, file = read_status(desk, request).name, io.StringIO(newline="")
    export(desk.installation.database, name, file, status=Status.DEAD_LETTER)
    return Response(file.getvalue(), headers=_name_file(f"{name}-dead-letters.csv"), media_type="text/csv")


def _name_file(name: str) -> dict[str, str]:
    """The header by which a browser keeps the answer as a file of this name, and does not show it."""
    return {"Content-Disposition": f'attachment; filename="{_UNFIT.sub("-", name)}"'}
