"""All pages of the desk, put together: which address is which page, who may see it, and what is said instead."""

from collections.abc import Callable, Collection, Mapping
from importlib.resources import files
from typing import Any

from redis import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from worker.batches.commands import NotPossible
from worker.batches.finding import UnknownBatch, UnknownColumn
from worker.config.settings import ConfigError
from worker.database.schema import SchemaOutdated
from worker.desk import views
from worker.desk.doors import Guard, LinkDoor, Visitor
from worker.desk.views import COMMANDS, Desk, Order, Unfit, link_to
from worker.installation.installation import NothingLoaded
from worker.reports.token_history import UnknownToken

# Bytes of a form at most; ours have a few hundred.
MOST_BYTES = 16_384
# Answers a visitor's request.
View = Callable[[Desk, Visitor, Request], Response]

_VIEWS: dict[str, View] = {
    "/": views.show_shipments,
    "/batch": views.show_batch,
    "/batch/report": views.download_report,
    "/batch/left": views.download_left,
    "/token": views.show_token,
    "/search": views.show_search,
    "/audit": views.show_audit,
}


def make_app(desk: Desk, hosts: Collection[str]) -> Guard:
    """Make the application. `hosts`: the names, with their ports, that it answers to."""
    routes = [Route(path, _for_visitors(desk, view), methods=["GET"]) for path, view in _VIEWS.items()]
    if not desk.is_read_only:
        routes += [
            Route("/batch/{command}", _for_visitors(desk, _show_form), methods=["GET"]),
            Route("/batch/{command}", _make_taker(desk), methods=["POST"]),
        ]
    routes += [
        _serve("/style.css", _read_template("style.css") + _read_template("desk.css"), "text/css"),
        _serve("/refresh.js", _read_template("refresh.js"), "text/javascript"),
        _serve("/icon.svg", _read_template("icon.svg"), "image/svg+xml"),
    ]
    if isinstance(desk.door, LinkDoor):
        routes.append(Route("/enter", _make_entrance(desk, desk.door), methods=["GET"]))
    pages = Starlette(routes=routes, exception_handlers=_make_handlers(desk), max_body_size=MOST_BYTES)
    # Around all of it, and no middleware inside, so that the answer after a failure of ours has its headers too.
    return Guard(pages, hosts)


def _for_visitors(desk: Desk, view: View) -> Callable[[Request], Response]:
    """Make a page that only visitors see who may come in."""

    def answer(request: Request) -> Response:
        visitor = desk.door.recognise(request)
        return view(desk, visitor, request) if visitor else _refuse_stranger(desk)

    return answer


def _refuse_stranger(desk: Desk) -> Response:
    return desk.refuse(401, desk.door.how_to_enter)


def _show_form(
    desk: Desk, visitor: Visitor, request: Request, mistake: str | None = None, typed: Mapping[str, str] | None = None
) -> Response:
    """Show the page on which a command is confirmed. `mistake`: what has to be mended first in what was `typed`."""
    command = request.path_params["command"]
    if command not in COMMANDS:
        raise HTTPException(404, "There is no such page.")
    status = views.read_status(desk, request)
    fields = request.query_params if typed is None else typed
    return desk.render(
        "confirm.html", visitor, 422 if mistake else 200, command=command, status=status, typed=fields, mistake=mistake
    )


def _make_taker(desk: Desk) -> Callable[[Request], Any]:
    """Make what takes a form, does what it commands, and goes back to the batch."""

    async def take(request: Request) -> Response:
        visitor = desk.door.recognise(request)
        if visitor is None:
            return _refuse_stranger(desk)
        fields = await desk.forms.read(request, visitor)
        return await run_in_threadpool(_do, desk, visitor, request, fields)

    return take


def _do(desk: Desk, visitor: Visitor, request: Request, fields: dict[str, str]) -> Response:
    """Do what was confirmed, in the visitor's name."""
    command = COMMANDS.get(request.path_params["command"])
    if command is None:
        raise HTTPException(404, "There is no such page.")
    status = views.read_status(desk, request)
    try:
        desk.done[visitor.session, status.name] = command(Order(desk.installation, status, visitor.name, fields))
    except Unfit as error:
        return _show_form(desk, visitor, request, str(error), fields)
    return RedirectResponse(link_to("/batch", name=status.name), 303)


def _make_entrance(desk: Desk, door: LinkDoor) -> Callable[[Request], Response]:
    """Make the page that the link leads to."""

    def enter(request: Request) -> Response:
        # A program that only asks whether the page is there (HEAD) must not use the link up.
        session = door.enter(request.query_params.get("key", "")) if request.method == "GET" else None
        if session is None:
            return _refuse_stranger(desk)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(door.cookie, session, httponly=True, samesite="lax")
        return answer

    return enter


def _make_handlers(desk: Desk) -> dict[Any, Callable[[Request, Exception], Response]]:
    """Say in a sentence what went wrong, with the status code of such a failure."""

    def refuse_as(status_code: int, explain: Callable[[Exception], str]) -> Callable[[Request, Exception], Response]:
        return lambda request, error: desk.refuse(status_code, explain(error), desk.door.recognise(request))

    def refuse_http(request: Request, error: Any) -> Response:
        return desk.refuse(error.status_code, error.detail, desk.door.recognise(request))

    return {
        HTTPException: refuse_http,
        **dict.fromkeys((UnknownBatch, UnknownColumn, UnknownToken, NothingLoaded), refuse_as(404, str)),
        NotPossible: refuse_as(409, str),
        **dict.fromkeys((ConfigError, SchemaOutdated), refuse_as(503, str)),
        **dict.fromkeys((DBAPIError, RedisError), refuse_as(503, desk.explain_failure)),
        NoConnection: refuse_as(503, lambda _: "The desk has no connection free: load the page again in a moment."),
        # It is raised again afterwards, and so stands in the log.
        Exception: refuse_as(500, lambda _: "Something failed in the desk itself. What it was stands in its log."),
    }


def _serve(path: str, text: str, media_type: str) -> Route:
    """Serve a text that anybody may read."""
    return Route(path, lambda _: Response(text, media_type=media_type), methods=["GET"])


def _read_template(name: str) -> str:
    return files("worker.desk").joinpath("templates", name).read_text(encoding="utf-8")
