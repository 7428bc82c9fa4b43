"""The web application of the desk: its pages, the commands that a person confirms on them, and downloadable files about
a batch; their routes, the check of visitors, and the answers to errors. Each view takes the desk, the visitor and the
request, and returns the answer. No page contains a secret."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from io import StringIO
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment
from redis import RedisError
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from models.audit import LONGEST_TICKET, AuditLine
from models.reason import Reason
from models.record_states import FINAL, Status
from models.refused_row import NOT_LOADED
from models.row_fault import RowFault
from worker.audit import this_person
from worker.batches.commands import HIGHEST_RATE, LOWEST_RATE, Batches, NotPossible, PaceCommands
from worker.batches.finding import UnknownBatch, UnknownColumn, list_names
from worker.batches.mending import HasToken, NotGiven, mend_pair, read_kind, take_back
from worker.batches.mending import give as give_token
from worker.config.settings import ConfigError
from worker.database.schema import SchemaOutdated
from worker.desk.batch_page import describe_batch, make_environment, write_file
from worker.desk.security import FORM_KEY, Forms, Guard, LinkLogin, Login, Visitor
from worker.embedded.home import EmbeddedError
from worker.installation.installation import Installation, NothingLoaded, read_histories, read_statuses
from worker.observability.wording import agree, count_things
from worker.reports.batch_history import read_batch_history
from worker.reports.command_results import describe_cancelled, describe_replayed, describe_resumed
from worker.reports.cures import name_export
from worker.reports.export import export
from worker.reports.facts import BatchStatus
from worker.reports.outlook import explain_fleet
from worker.reports.search import SearchResult, Sought, name_user, search
from worker.reports.token_history import NextStep, TokenHistory, UnknownToken, read_given

# Status codes of a form that was refused, or whose command was impossible.
NOT_DONE = (403, 409, 413)
# Records that a search lists, at most.
MOST_FOUND = 200
# Lines that the page of the audit lists, at most.
MOST_LINES = 200
# Maximum number of most recently given-out tokens that the page lists below its form.
MOST_GIVEN = 10
# The statuses that a search accepts: those of records, and that of rows that were not loaded.
_STATUSES = [*Status, NOT_LOADED]
# Characters that a file's name may not have, because each browser would replace them in its own way.
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Desk:
    """Everything that all pages share. `explain_failure` says what is wrong with the database or Redis.
    `is_read_only`: the desk accepts no commands."""

    installation: Installation
    login: Login
    forms: Forms
    explain_failure: Callable[[Exception], str]
    is_read_only: bool = False
    # By session and batch: the result of the last command, until a page has shown it.
    done: dict[tuple[str, str], str] = field(default_factory=dict)
    # By session and batch: what was wrong with the OTPs that were typed, until their page has shown it.
    mistakes: dict[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def templates(self) -> Environment:
        """The environment that renders the pages."""
        environment = make_environment()
        environment.globals |= {"is_file": False, "link_to": link_to, "is_read_only": self.is_read_only}
        environment.globals["takes_otps"] = self.takes_otps
        return environment

    def takes_otps(self) -> bool:
        """Whether a person can type OTPs here: the desk accepts commands, and has the key to encrypt OTPs at once."""
        with suppress(ConfigError, EmbeddedError):
            return not self.is_read_only and bool(self.installation.keyring)
        return False

    def render(
        self, template: str, visitor: Visitor | None = None, status_code: int = 200, **context: Any
    ) -> HTMLResponse:
        """Render a page for this visitor, or for somebody who may not enter (None)."""
        page = self.templates.get_template(template).render(
            visitor=visitor, form_key=(FORM_KEY, self.forms.make_key(visitor)) if visitor else None, **context
        )
        return HTMLResponse(page, status_code)

    def refuse(self, status_code: int, sentence: str, visitor: Visitor | None = None) -> Response:
        """Render the page that says why something cannot be shown, or was not done."""
        return self.render("problem.html", visitor, status_code, sentence=sentence, was_command=status_code in NOT_DONE)


def link_to(path: str, **parameters: str) -> str:
    """Write the address of a page. Names are in the query, since a batch's name may contain any character."""
    given = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def show_shipments(desk: Desk, visitor: Visitor, _: Request) -> Response:
    """Show all batches, the latest first."""
    statuses = read_statuses(desk.installation)
    return desk.render("shipments.html", visitor, statuses=statuses, notes=explain_fleet(statuses))


def show_batch(desk: Desk, visitor: Visitor, request: Request) -> Response:
    """Show the status and the history of one batch. Raises UnknownBatch, UnknownColumn."""
    status = read_status(desk, request)
    history = read_batch_history(desk.installation.database, status, request.query_params.get("by"))
    return desk.render(
        "batch.html",
        visitor,
        **describe_batch(status, history),
        done=desk.done.pop((visitor.session, status.name), None),
    )


def read_status(desk: Desk, request: Request) -> BatchStatus:
    """Read the status of the batch that the request names. Raises UnknownBatch."""
    name = request.query_params.get("name")
    if not name:
        raise UnknownBatch("the address names no batch")
    (status,) = read_statuses(desk.installation, name)
    return status


def show_token(desk: Desk, visitor: Visitor, request: Request) -> Response:
    """Show the history of a token. Raises UnknownToken."""
    told = read_histories(desk.installation, request.query_params.get("of", ""))
    return desk.render("token.html", visitor, told=told)


def show_search(desk: Desk, visitor: Visitor, request: Request) -> Response:
    """Show the search form and the results. Raises UnknownBatch."""
    sought = read_sought(request.query_params)
    findings = search(desk.installation.database, sought, MOST_FOUND) if sought else SearchResult([], 0)
    return desk.render(
        "search.html",
        visitor,
        sought=sought or Sought(),
        findings=findings,
        name_user=name_user,
        batches=list_names(desk.installation.database),
        statuses=_STATUSES,
        reasons=[*Reason, *RowFault],
    )


def read_sought(parameters: Mapping[str, str]) -> Sought | None:
    """Read the criteria of a search from the address; None if there are none. Unknown statuses and reasons are
    ignored."""
    given: dict[str, Any] = {
        name: parameters.get(name, "").strip() or None for name in ("text", "batch", "status", "reason")
    }
    given["status"] = given["status"] if given["status"] in _STATUSES else None
    given["reason"] = given["reason"] if given["reason"] in [*Reason, *RowFault] else None
    return Sought(**given) if any(given.values()) else None


def show_audit(desk: Desk, visitor: Visitor, _: Request) -> Response:
    """Show the latest commands."""
    latest = select(AuditLine.__table__).order_by(AuditLine.id.desc()).limit(MOST_LINES)
    with desk.installation.database.reading() as connection:
        lines = connection.execute(latest).all()
    return desk.render("audit.html", visitor, lines=lines, most=MOST_LINES)


def download_report(desk: Desk, _: Visitor, request: Request) -> Response:
    """Send the page of a batch as a file, as `oathbulk report` writes it. Raises UnknownBatch, UnknownColumn."""
    status = read_status(desk, request)
    history = read_batch_history(desk.installation.database, status, request.query_params.get("by"))
    page = write_file(status, history)
    return _send(page, f"{status.name}-report.html", "text/html")


def download_failed(desk: Desk, _: Visitor, request: Request) -> Response:
    """Send the failed rows of a batch, or the dead letters of the reason that the request names, as a CSV without OTPs.
    After corrections, the file mends the batch. Raises UnknownBatch."""
    # Write the whole file before sending it: the browser may be slow, and no transaction may stay open that long.
    name, file, reason = read_status(desk, request).name, StringIO(), request.query_params.get("reason", "")
    reasons = [reason] if reason in [*Reason] else None
    export(desk.installation.database, name, file, reasons=reasons, failed=True)
    return _send(file.getvalue(), name_export(name, reason if reasons else "failed"), "text/csv")


def _send(content: str, name: str, media_type: str) -> Response:
    """Send a file that a browser saves under this name instead of showing it."""
    disposition = f'attachment; filename="{_UNFIT.sub("-", name)}"'
    return Response(content, headers={"Content-Disposition": disposition}, media_type=media_type)


class Unfit(Exception):
    """A field of the form is invalid; the message says which one, and what is valid. `keeps`: the form keeps what was
    typed, because the person only has to confirm something."""

    def __init__(self, message: str, *, keeps: bool = False) -> None:
        super().__init__(message)
        self.keeps = keeps


@dataclass(frozen=True, slots=True)
class Order:
    """A command that a person has confirmed: the batch, the person, and the fields of the form."""

    installation: Installation
    status: BatchStatus
    person: str
    # They may contain OTPs, so they are not in the repr.
    fields: Mapping[str, str] = field(repr=False)

    @property
    def batches(self) -> Batches:
        """The commands on batches, in this person's name."""
        return self.installation.batches(self.read_ticket(), self.person)

    @property
    def paces(self) -> PaceCommands:
        """The commands on paces, in this person's name."""
        return self.installation.pace_commands(self.read_ticket(), self.person)

    def read_ticket(self) -> str | None:
        """Read the ticket; None if none was given. Raises Unfit."""
        ticket = self.fields.get("ticket", "").strip()
        if len(ticket) > LONGEST_TICKET or not ticket.isprintable():
            raise Unfit(f"A ticket has at most {LONGEST_TICKET} printable characters.")
        return ticket or None


def pause(order: Order) -> str:
    """Pause the batch, or keep back only the rows that match the field `where`. Raises NotPossible, UnknownColumn."""
    name, where = order.status.name, order.fields.get("where")
    if where:
        rows = order.batches.pause(name, [where])
        waits, it = agree(rows, "waits", "wait"), agree(rows, "it", "them")
        return f"{count_things(rows, 'row')} with {where} {waits} until you resume {it}."
    order.batches.pause(name)
    return f"{name} is paused. Resume it to continue."


def resume(order: Order) -> str:
    """Resume the batch. With the field `now`, also end the hold of its license. With the field `where`, begin only
    those matching rows that are waiting for a date or were kept back. Raises NotPossible, UnknownColumn."""
    if where := order.fields.get("where"):
        return f"{count_things(order.batches.let_begin(order.status.name, [where]), 'row')} with {where} may begin now."
    lifts_hold = "now" in order.fields
    lift_in = order.installation.license_of if lifts_hold else None
    outside = order.batches.resume(order.status.name, lift_in=lift_in)
    return describe_resumed(order.status.name, outside, order.status.fleet, lifts_hold=lifts_hold)


def give(order: Order) -> str:
    """Give out a waiting token to the person in the form. Raises Unfit."""
    serial, person = (order.fields.get(name, "").strip() for name in ("serial", "person"))
    actor = this_person(order.installation.settings, order.read_ticket(), order.person)
    may_have_two = "second" in order.fields
    try:
        give_token(order.installation.database, actor, order.status.name, serial, person, may_have_two=may_have_two)
    except HasToken as asked:
        raise Unfit(f"{asked}. Select the checkbox below if they should have two.", keeps=True) from asked
    except NotGiven as refused:
        raise Unfit(f"{refused}.") from refused
    return f"Token {serial} is {person}'s."


def take_token_back(order: Order) -> str:
    """Take back a token that was given out, so that it waits to be given out again. Raises NotPossible."""
    serial, person = (order.fields.get(name, "") for name in ("serial", "person"))
    actor = this_person(order.installation.settings, order.read_ticket(), order.person)
    take_back(order.installation.database, actor, order.status.name, serial, person)
    return f"Token {serial} no longer belongs to {person}: it is waiting to be given out."


def take_otps(order: Order) -> str:
    """With the two OTPs in the form, mend a token that failed because of its OTPs. Raises Unfit."""
    installation, serial = order.installation, order.fields.get("serial", "")
    try:
        mend_pair(
            installation.database,
            installation.keyring,
            this_person(installation.settings, order.read_ticket(), order.person),
            order.status.name,
            serial,
            (order.fields.get("otp1", ""), order.fields.get("otp2", "")),
            totp_max_age=installation.settings.tuning.totp_max_age,
            may_have_two="second" in order.fields,
        )
    except HasToken as asked:
        raise Unfit(f"{asked}. Select the checkbox below if they should have two, and type the OTPs again.") from asked
    except NotPossible as refused:
        raise Unfit(f"{refused}.") from refused
    return f"Two fresh OTPs of token {serial} are on their way."


def cancel(order: Order) -> str:
    """Cancel the batch, if the person has typed its name. Raises Unfit."""
    name = order.status.name
    if order.fields.get("typed_name", "").strip() != name.strip():
        raise Unfit(f"To cancel it, type the name of the batch: {name}")
    return describe_cancelled(name, order.batches.cancel(name))


def replay(order: Order) -> str:
    """Replay the dead letters of one reason; without a reason, all dead letters and cancelled records; or with the
    field `where`, only those that match. Raises Unfit, NotPossible, UnknownColumn."""
    if where := order.fields.get("where"):
        replayed = order.batches.replay(order.status.name, where=[where])
        return describe_replayed(order.status.name, replayed, None, order.status.fleet)
    chosen = order.fields.get("reason", "")
    if chosen and chosen not in [*Reason]:
        raise Unfit("This reason does not exist.")
    cancelled = str(order.status.counts[Status.CANCELLED])
    if not chosen and order.fields.get("cancelled", cancelled) != cancelled:
        raise NotPossible("Tokens were cancelled or sent again since this form was shown: look at the batch first.")
    reasons = [Reason(chosen)] if chosen else None
    replayed = order.batches.replay(order.status.name, reasons)
    return describe_replayed(order.status.name, replayed, reasons, order.status.fleet)


def set_pace(order: Order) -> str:
    """Set the pace of the batch's license in the way that the field `pace` selects. Raises Unfit."""
    license_ = order.status.license_pace.license if order.status.license_pace else ""
    match order.fields.get("pace"):
        case "share":
            share = _read_number(order.fields, "share", 0.01, 100)
            order.paces.set_share(license_, share / 100)
            return f"License {license_} now keeps to {share:g} % of what PingOne permits."
        case "fixed":
            rate = _read_number(order.fields, "rate", LOWEST_RATE, HIGHEST_RATE)
            order.paces.fix(license_, rate)
            return f"License {license_} now stays at {rate:g} requests a second."
        case "adapt":
            order.paces.adapt(license_)
            return f"License {license_} now looks for the limit again."
        case "lift":
            order.paces.lift(license_)
            return f"The hold of license {license_} ends within seconds."
    raise Unfit("Choose one of the four.")


def _read_number(fields: Mapping[str, str], name: str, least: float, most: float) -> float:
    """Read a number within these limits from a form. Raises Unfit."""
    try:
        number = float(fields.get(name, "").strip())
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise Unfit(f"The {name} must be a number from {least:g} to {most:,.0f}.")
    return number


# Commands by the last part of their address.
COMMANDS: dict[str, Callable[[Order], str]] = {
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "give": give,
    "otps": take_otps,
    "take-back": take_token_back,
    "replay": replay,
    "pace": set_pace,
}
# Commands on one token whose own page shows the result.
PAGES_OF_TOKENS = ("give", "otps")
# The page that follows a command on one token, and the form field that it keeps. Other commands are followed by the
# batch's page.
BACK_TO = {"give": ("/batch/give", "ticket"), "take-back": ("/batch/give", "ticket"), "otps": ("/batch/otps", "serial")}


# Bytes of a form, at most; the desk's own forms have a few hundred.
MOST_BYTES = 16_384
# Answers a visitor's request.
View = Callable[[Desk, Visitor, Request], Response]

_VIEWS: dict[str, View] = {
    "/": show_shipments,
    "/batch": show_batch,
    "/batch/report": download_report,
    "/batch/failed": download_failed,
    "/token": show_token,
    "/search": show_search,
    "/audit": show_audit,
}


def make_app(desk: Desk, hosts: Collection[str]) -> Guard:
    """Make the application. `hosts`: the names, with ports, to which it answers."""
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
    if isinstance(desk.login, LinkLogin):
        routes.append(Route("/enter", _make_entrance(desk, desk.login), methods=["GET"]))
    pages = Starlette(routes=routes, exception_handlers=_make_handlers(desk), max_body_size=MOST_BYTES)
    # Wrap the whole application rather than add a middleware, so that the answer after an internal failure also gets
    # the headers.
    return Guard(pages, hosts)


def _for_visitors(desk: Desk, view: View) -> Callable[[Request], Response]:
    """Make a page that only visitors who may enter can see."""

    def answer(request: Request) -> Response:
        visitor = desk.login.recognize(request)
        return view(desk, visitor, request) if visitor else _refuse_stranger(desk)

    return answer


def _refuse_stranger(desk: Desk) -> Response:
    return desk.refuse(401, desk.login.how_to_enter)


def _show_form(
    desk: Desk, visitor: Visitor, request: Request, mistake: str | None = None, typed: Mapping[str, str] | None = None
) -> Response:
    """Show the page on which a person confirms a command. `mistake`: what the person has to correct in the `typed`
    fields."""
    command = request.path_params["command"]
    if command not in COMMANDS:
        raise HTTPException(404, "This page does not exist.")
    status = read_status(desk, request)
    fields = request.query_params if typed is None else typed
    about: dict[str, Any] = {"command": command, "status": status, "typed": fields, "mistake": mistake}
    if command in PAGES_OF_TOKENS:
        about["done"] = desk.done.pop((visitor.session, status.name), None)
    about |= _read_tokens(desk, command, status.name, fields.get("serial", ""))
    if command == "otps":
        about["mistake"] = desk.mistakes.pop((visitor.session, status.name), None)
    template = f"{command}.html" if command in PAGES_OF_TOKENS else "confirm.html"
    return desk.render(template, visitor, 422 if mistake else 200, **about)


def _read_tokens(desk: Desk, command: str, batch: str, serial_number: str) -> dict[str, Any]:
    """Read the values for the form of a command on one token: that token, or those given out last. Raises UnknownToken,
    HTTPException."""
    if command == "otps":
        token, step = _read_token(desk, batch, serial_number)
        return {"token": token, "step": step}
    if command not in ("give", "take-back"):
        return {}
    given = read_given(desk.installation.database, batch, MOST_GIVEN)
    if command == "give":
        to_do = [line.id for line in given if line.status not in FINAL]
        steps = {record_id: read_histories(desk.installation, f"#{record_id}")[0][1] for record_id in to_do}
        return {"given": given, "steps": steps, "kind": read_kind(desk.installation.database, batch)}
    for line in given:
        if line.serial_number == serial_number:
            return {"line": line}
    raise UnknownToken(f"no such token is among the last {MOST_GIVEN} that were given out")


def _read_token(desk: Desk, batch: str, serial_number: str) -> tuple[TokenHistory, NextStep]:
    """Read the history and the next step of the token whose OTPs are typed here. Raises UnknownToken, HTTPException."""
    if not desk.takes_otps():
        raise HTTPException(404, "This desk has no encryption key, and takes no OTPs: use `oathbulk mend`.")
    for token, step in read_histories(desk.installation, serial_number):
        if token.records and token.latest.batch.name == batch:
            return token, step
    raise UnknownToken(f"batch {batch!r} has no token {serial_number}, or a later batch has it")


def _make_taker(desk: Desk) -> Callable[[Request], Any]:
    """Make the handler that receives a form, carries out its command, and redirects to the page that follows."""

    async def take(request: Request) -> Response:
        visitor = desk.login.recognize(request)
        if visitor is None:
            return _refuse_stranger(desk)
        fields = await desk.forms.read(request, visitor)
        return await run_in_threadpool(_do, desk, visitor, request, fields)

    return take


def _do(desk: Desk, visitor: Visitor, request: Request, fields: dict[str, str]) -> Response:
    """Carry out the confirmed command in the visitor's name."""
    command = COMMANDS.get(request.path_params["command"])
    if command is None:
        raise HTTPException(404, "This page does not exist.")
    status = read_status(desk, request)
    # After a command on one token, return to the form for the next one.
    page, kept = BACK_TO.get(request.path_params["command"], ("/batch", ""))
    back = link_to(page, name=status.name, **{kept: fields.get(kept, "")})
    try:
        desk.done[visitor.session, status.name] = command(Order(desk.installation, status, visitor.name, fields))
    except Unfit as error:
        if command is take_otps:
            # Redirect, since the browser's history would otherwise keep the form with the OTPs.
            desk.mistakes[visitor.session, status.name] = str(error)
            return RedirectResponse(back, 303)
        # Empty the form, so that the next scan is neither appended to the previous serial number nor sent with the
        # previous person.
        typed = fields if error.keeps or command is not give else {"ticket": fields.get("ticket", "")}
        return _show_form(desk, visitor, request, str(error), typed)
    return RedirectResponse(back, 303)


def _make_entrance(desk: Desk, login: LinkLogin) -> Callable[[Request], Response]:
    """Make the page that the link leads to."""

    def enter(request: Request) -> Response:
        # A program that only checks whether the page exists (HEAD) must not use up the link.
        session = login.enter(request.query_params.get("key", "")) if request.method == "GET" else None
        if session is None:
            return _refuse_stranger(desk)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(login.cookie, session, httponly=True, samesite="lax")
        return answer

    return enter


def _make_handlers(desk: Desk) -> dict[Any, Callable[[Request, Exception], Response]]:
    """Make the handlers that answer each kind of failure with its status code and a sentence that says what went
    wrong."""

    def refuse_as(status_code: int, explain: Callable[[Exception], str]) -> Callable[[Request, Exception], Response]:
        return lambda request, error: desk.refuse(status_code, explain(error), desk.login.recognize(request))

    def refuse_http(request: Request, error: Any) -> Response:
        return desk.refuse(error.status_code, error.detail, desk.login.recognize(request))

    return {
        HTTPException: refuse_http,
        **dict.fromkeys((UnknownBatch, UnknownColumn, UnknownToken, NothingLoaded), refuse_as(404, str)),
        NotPossible: refuse_as(409, str),
        **dict.fromkeys((ConfigError, SchemaOutdated), refuse_as(503, str)),
        **dict.fromkeys((DBAPIError, RedisError), refuse_as(503, desk.explain_failure)),
        NoConnection: refuse_as(503, lambda _: "The desk has no free connection: load the page again in a moment."),
        # Starlette then raises the error again, so it is logged.
        Exception: refuse_as(500, lambda _: "The desk itself failed. Its log says why."),
    }


def _serve(path: str, text: str, media_type: str) -> Route:
    """Serve a text to anybody, without a login."""
    return Route(path, lambda _: Response(text, media_type=media_type), methods=["GET"])


def _read_template(name: str) -> str:
    return files("worker.desk").joinpath("templates", name).read_text(encoding="utf-8")
