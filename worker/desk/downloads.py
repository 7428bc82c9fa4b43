"""Files about a batch to keep: its page, and what is left of it. Nothing in them is secret."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import TextIO, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from models.reason import Reason
from models.record_states import Status
from worker.desk.desk import Desk
from worker.desk.doors import Visitor
from worker.desk.views import read_status
from worker.pages.batch_page import write_file
from worker.reports.export import export
from worker.reports.overview import read_overview
from worker.reports.sentences import name_export

# What a file's name may not have; a browser would change it, each in its own way.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
# Characters that are sent at once.
_PIECE = 65_536


def download_report(desk: Desk, _: Visitor, request: Request) -> Response:
    """Answer with the page of a batch, as `oathbulk report` writes it. Raises UnknownBatch."""
    status = read_status(desk, request)
    page = write_file(status, read_overview(desk.installation.database, status))
    return _send([page], f"{status.name}-report.html", "text/html")


def download_left(desk: Desk, _: Visitor, request: Request) -> Response:
    """Answer with what was given up of a batch, or the dead letters of the reason that the request names, as CSV
    without OTPs: corrected, it mends the batch. Raises UnknownBatch."""
    name, file, reason = read_status(desk, request).name, _open_file(), request.query_params.get("reason", "")
    reasons = [reason] if reason in [*Reason] else None
    status = Status.DEAD_LETTER if reasons else None
    export(desk.installation.database, name, file, status=status, reasons=reasons, is_left=True)
    return _send(_read(file), name_export(name, reason if reasons else "left"), "text/csv")


def _open_file() -> TextIO:
    """Open a file without a name, which is gone once it was sent. A file is written whole before the first of it is
    sent: a browser may take it slowly, and no transaction is to be open for so long."""
    return cast(TextIO, tempfile.TemporaryFile("w+", encoding="utf-8", newline=""))


def _send(pieces: Iterable[str], name: str, media_type: str) -> Response:
    """Answer with a file that a browser keeps under this name, and does not show."""
    disposition = f'attachment; filename="{_UNFIT.sub("-", name)}"'
    return StreamingResponse(pieces, headers={"Content-Disposition": disposition}, media_type=media_type)


def _read(file: TextIO) -> Iterator[str]:
    with file:
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
