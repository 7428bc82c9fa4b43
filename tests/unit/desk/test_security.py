"""Who may come in to the desk, what is refused because another site may have sent it, what browsers are told about
every page; and what is read from an address, and from a form before anything is commanded. No page here needs a
database: nothing was loaded."""

import html
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from support.data.facts import batch
from support.servers.web_desk import ORIGIN, PERSON, WebDesk

from models.audit import LONGEST_TICKET
from worker.database.schema import SchemaOutdated
from worker.desk import app
from worker.desk.app import COMMANDS, Order, Unfit, link_to, read_sought
from worker.desk.security import FORM_KEY, HEADERS, LONGEST_NAME, LinkLogin, ProxyLogin
from worker.installation.installation import Installation
from worker.pace.license_paces import KnownPace
from worker.reports.search import Sought

HEADER = "X-Forwarded-User"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation({"OATHBULK_HOME": str(tmp_path / "home")})


@pytest.fixture
def desk(installation: Installation) -> WebDesk:
    """A desk into which nobody has come yet."""
    return WebDesk(installation)


@pytest.fixture
def inside(desk: WebDesk) -> WebDesk:
    """A desk into which somebody has come."""
    desk.enter()
    return desk


# The link.


def test_a_link_lets_its_first_user_in_under_the_name_of_who_started_the_desk(desk: WebDesk) -> None:
    assert desk.get("/").status_code == 401
    entered = desk.enter()
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    # Kept from scripts and from forms of other sites; it ends with the browser.
    cookie = {"httponly": True, "samesite=lax": True, "max-age": False, "expires": False}
    assert {word: word in entered.headers["set-cookie"].lower() for word in cookie} == cookie
    assert PERSON in desk.read("/")


def test_a_link_works_once_and_the_next_one_lets_another_browser_in(desk: WebDesk) -> None:
    (first,) = desk.links
    # A program that only asks whether the page is there does not use it up.
    assert desk.request("HEAD", first).status_code == 401
    desk.enter()
    desk.cookies.clear()
    refused = desk.get(first)
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
    assert desk.request("GET", "/", headers=[("Cookie", "desk=made-up")]).status_code == 401
    assert len(desk.links) == len(set(desk.links)) == 2
    assert (desk.enter().status_code, desk.get("/").status_code) == (303, 200)


def test_of_many_who_use_a_link_at_the_same_time_one_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[str] = []
    login = LinkLogin(PERSON, "desk", links.append)
    (key,) = parse_qs(urlsplit(links[0]).query)["key"]
    meeting, make = threading.Barrier(2), secrets.token_urlsafe

    def meet(size: int) -> str:
        """Wait for another whose key was found right as well; where one at a time is looked at, nobody comes."""
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.5)
        return make(size)

    monkeypatch.setattr(secrets, "token_urlsafe", meet)
    with ThreadPoolExecutor(2) as threads:
        sessions = list(threads.map(login.enter, [key, key]))
    assert (len([session for session in sessions if session]), len(links)) == (1, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "/enter",
        lambda _: "/enter?key=",
        lambda _: "/enter?key=wrong",
        lambda _: "/enter?key=%F0%9F%94%91",
        lambda _: "/enter?key=%ED%A0%80",
        lambda link: f"{link}x",
        lambda link: link[:-1],
    ],
)
def test_a_wrong_key_lets_nobody_in_and_keeps_the_link(desk: WebDesk, change: Callable[[str], str]) -> None:
    refused = desk.get(change(desk.links[0]))
    assert (refused.status_code, "The terminal that runs" in refused.text) == (401, True)
    assert len(desk.links) == 1


# The proxy.


@pytest.fixture
def behind_proxy(installation: Installation) -> WebDesk:
    return WebDesk(installation, ProxyLogin(HEADER, [ip_network("10.0.0.0/24"), ip_network("127.0.0.0/8")]))


@pytest.mark.parametrize("name", [" bob ", "Renée à Paris", "x" * LONGEST_NAME])
def test_whom_the_proxy_names_comes_in_under_that_name(behind_proxy: WebDesk, name: str) -> None:
    assert behind_proxy.get("/").status_code == 401
    behind_proxy.headers = [(HEADER.lower(), name)]
    assert f'<p class="who-am-i">{name.strip()}</p>' in behind_proxy.read("/")
    assert behind_proxy.get("/enter?key=").status_code == 404


@pytest.mark.parametrize("client", ["10.0.1.7", "192.168.0.1", "::1", "somewhere", ""])
def test_the_header_counts_from_the_proxys_addresses_only(behind_proxy: WebDesk, client: str) -> None:
    behind_proxy.headers = [(HEADER, "bob")]
    behind_proxy.client = (client, 1)
    refused = behind_proxy.get("/")
    assert (refused.status_code, HEADER in refused.text) == (401, True)
    behind_proxy.client = ("10.0.0.9", 1)
    assert behind_proxy.get("/").status_code == 200


def test_a_second_header_beside_the_proxys_lets_nobody_in(behind_proxy: WebDesk) -> None:
    behind_proxy.headers = [(HEADER, "bob"), (HEADER.upper(), "mallory")]
    assert behind_proxy.get("/").status_code == 401


@pytest.mark.parametrize(
    "name",
    ["", "  ", "x" * (LONGEST_NAME + 1), "bob\x07", "bob\x1b[2J", "b\udcf6b", "bo\u202eb"],
    ids=["empty", "spaces", "overlong", "bell", "escape", "latin-1", "direction"],
)
def test_a_name_that_the_audit_cannot_take_lets_nobody_in(behind_proxy: WebDesk, name: str) -> None:
    behind_proxy.headers = [(HEADER, name)]
    assert behind_proxy.get("/").status_code == 401


# Hosts.


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "127.0.0.1:8765.evil.example", ""]
)
def test_another_name_gets_no_page_of_ours(desk: WebDesk, host: str) -> None:
    for path in ("/", "/style.css", desk.links[0]):
        refused = desk.request("GET", path, headers=[("Host", host)])
        assert (refused.status_code, refused.text) == (421, "This desk does not answer to that name.\n")
    # Nor is a link used up.
    assert len(desk.links) == 1


def test_the_name_of_the_desk_may_be_written_in_capitals(desk: WebDesk) -> None:
    desk._app = app.make_app(desk.desk, ["desk.example"])
    assert desk.request("GET", "/style.css", headers=[("Host", "DESK.example")]).status_code == 200


# Headers, and failures.


def fail_with(patch: pytest.MonkeyPatch, desk: WebDesk, error: Exception) -> WebDesk:
    """A desk into which somebody has come, and whose page of the audit fails."""

    def fail(*_: object) -> Any:
        raise error

    patch.setitem(app._VIEWS, "/audit", fail)
    broken = WebDesk(desk.desk.installation)
    broken.enter()
    return broken


def test_every_answer_has_every_header(desk: WebDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fail_with(monkeypatch, desk, ZeroDivisionError("a secret"))
    answers = [broken.enter(), broken.get("/"), broken.get("/audit"), broken.get("/nothing"), broken.get("/style.css")]
    answers += [broken.request("PUT", "/"), broken.request("GET", "/", headers=[("Host", "evil.example")])]
    answers += [
        broken.post("/batch/pause?name=x", {}),
        broken.get("/batch"),
        broken.request("HEAD", "/"),
        desk.get("/"),
    ]

    assert [answer.status_code for answer in answers] == [303, 200, 500, 404, 200, 405, 421, 403, 404, 200, 401]
    every = {name: [text] for name, text in HEADERS.items()}
    assert [{name: answer.headers.get_list(name) for name in HEADERS} for answer in answers] == [every] * len(answers)


def test_the_policy_lets_nothing_in_from_elsewhere_and_no_script_stand_in_a_page() -> None:
    policy = dict(part.split(maxsplit=1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {source for name, source in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert policy["form-action"] == "'self'"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ZeroDivisionError("308714"), 500, "The desk itself failed."),
        (OperationalError("SELECT 308714", {}, Exception("gone")), 503, "a server failed: OperationalError"),
        (NoConnection("QueuePool limit of size 308714 reached"), 503, "no free connection"),
        (SchemaOutdated("the schema is of another version"), 503, "the schema is of another version"),
    ],
)
def test_a_failure_is_told_in_a_sentence_without_what_it_says(
    desk: WebDesk, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    answer = fail_with(monkeypatch, desk, error).get("/audit")
    assert (answer.status_code, said in answer.text) == (status, True)
    assert ("308714" in answer.text, "Traceback" in answer.text) == (False, False)


# Queries.


@pytest.mark.parametrize(
    "path", ["/batch?name=%00", "/batch?name=a%00b", "/search?text=%00", "/token?of=" + 9000 * "x"]
)
def test_a_query_that_no_database_takes_is_refused_before_it_gets_there(inside: WebDesk, path: str) -> None:
    answer = inside.get(path)
    assert (answer.status_code, answer.text) == (400, "The address contains a NUL, or is too long.\n")


# Forms.

FORM = "/batch/pause?name=x"


def make_key(desk: WebDesk) -> str:
    """The key of this session's forms."""
    return desk.desk.forms.make_key(app.Visitor("alice", desk.cookies["desk"]))


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1", f"{ORIGIN}.evil.example"],
)
def test_a_form_from_elsewhere_is_refused_whatever_it_holds(inside: WebDesk, origin: str | None) -> None:
    fields = {FORM_KEY: make_key(inside)}
    refused = inside.post(FORM, fields, origin)
    assert (refused.status_code, "sent by another site" in refused.text) == (403, True)
    # From our own page, it would have been looked at: there is no batch yet.
    assert inside.post(FORM, fields).status_code == 404


@pytest.mark.parametrize("fields", [{}, *({FORM_KEY: key} for key in ("", "wrong", "é", "0" * 64))])
def test_a_form_without_the_key_of_its_session_is_refused(desk: WebDesk, fields: dict[str, str]) -> None:
    assert desk.post(FORM, fields).status_code == 401
    desk.enter()
    refused = desk.post(FORM, fields)
    assert (refused.status_code, "opened before the desk was restarted" in html.unescape(refused.text)) == (403, True)


def test_the_form_of_one_session_is_none_of_another(inside: WebDesk) -> None:
    first = make_key(inside)
    inside.cookies.clear()
    inside.enter()
    assert inside.post(FORM, {FORM_KEY: first}).status_code == 403


def test_a_form_that_is_too_large_or_no_text_is_refused(inside: WebDesk) -> None:
    for size, status in ((app.MOST_BYTES // 2, 403), (app.MOST_BYTES + 1, 413), (100 * app.MOST_BYTES, 413)):
        assert inside.post(FORM, {"ticket": "x" * size}).status_code == status
    headers = [("Origin", ORIGIN), ("Content-Type", "application/x-www-form-urlencoded")]
    refused = inside.request("POST", FORM, headers=headers, content=b"\xff\xfe&%zz=%ff&" + b"=&" * 1000)
    assert refused.status_code == 403


def test_a_page_takes_no_form_where_there_is_no_command(inside: WebDesk) -> None:
    fields = {FORM_KEY: make_key(inside)}
    found = {path: inside.post(path, fields).status_code for path in ("/batch/report?name=x", "/", "/search", "/audit")}
    assert found == {"/batch/report?name=x": 404, "/": 405, "/search": 405, "/audit": 405}


def test_before_anything_was_loaded_each_page_says_so_and_no_home_is_made(inside: WebDesk, tmp_path: Path) -> None:
    assert "No batch has been loaded yet." in inside.read("/")
    answers = [inside.get(path) for path in ("/audit", "/search?text=x", "/batch?name=x", "/token?of=x", FORM)]
    assert {(answer.status_code, "nothing has been loaded into" in answer.text) for answer in answers} == {(404, True)}
    assert not (tmp_path / "home").exists()


# What is read from an address and from a form.

PALLET = batch(pending=3)


class Installed:
    """An installation that only notes what is commanded."""

    settings = SimpleNamespace(is_embedded_database=False)

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    def batches(self, *who: str | None) -> Any:
        self.commands.append(who)
        return self

    pace_commands = batches

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self.commands.append((name, *arguments)) or 3  # type: ignore[func-returns-value]


def give(command: str, name: str = "pallet-7", **fields: str) -> tuple[list[tuple[Any, ...]], str]:
    """Give a command on this batch: what was done in whose name, and what is said of it."""
    installed: Any = Installed()
    status = replace(PALLET, name=name, license_pace=KnownPace("the-license"))
    said = COMMANDS[command](Order(installed, status, "alice", fields))
    return installed.commands, said


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "inf", "-inf", "60%", "-1", "0.009", "1e-300", "1e9", "sixty", "1,5", "0x10", "1 2"]
)
@pytest.mark.parametrize(("choice", "field", "most"), [("share", "share", "100"), ("fixed", "rate", "100,000")])
def test_what_is_no_number_within_bounds_is_refused_with_the_bounds(
    text: str, choice: str, field: str, most: str
) -> None:
    for fields in ({field: text}, {}):
        with pytest.raises(Unfit, match=f"The {field} must be a number from 0.01 to {most}."):
            give("pace", pace=choice, **fields)


@pytest.mark.parametrize(
    ("command", "fields", "done", "said"),
    [
        ("pace", {"pace": "share", "share": " 100 "}, ("set_share", "the-license", 1.0), "keeps to 100 % of what"),
        ("pace", {"pace": "share", "share": "0.01"}, ("set_share", "the-license", 0.0001), "keeps to 0.01 % of what"),
        ("pace", {"pace": "fixed", "rate": "100000"}, ("fix", "the-license", 100_000.0), "100000 requests a second"),
        ("pace", {"pace": "fixed", "rate": "0.01"}, ("fix", "the-license", 0.01), "stays at 0.01 requests a second"),
        # A number beside another choice does not matter.
        ("pace", {"pace": "adapt", "share": "nan"}, ("adapt", "the-license"), "looks for the limit again"),
        ("pace", {"pace": "lift"}, ("lift", "the-license"), "The hold of license the-license ends within seconds."),
        ("pause", {}, ("pause", "pallet-7"), "pallet-7 is paused. Resume it to continue."),
        ("cancel", {"typed_name": " pallet-7 "}, ("cancel", "pallet-7"), "pallet-7 is cancelled: 3 rows are closed."),
        ("cancel", {"name": " x ", "typed_name": "x"}, ("cancel", " x "), "is cancelled: 3 rows are closed."),
    ],
)
def test_a_command_that_fits_is_done_in_the_persons_name_and_told(
    command: str, fields: dict[str, str], done: tuple[Any, ...], said: str
) -> None:
    for ticket, kept in ((" CHG-7 ", "CHG-7"), ("   ", None), ("x" * LONGEST_TICKET, "x" * LONGEST_TICKET)):
        commands, told = give(command, ticket=ticket, **fields)
        assert commands == [(kept, "alice"), done]
        assert said in told


@pytest.mark.parametrize(
    ("command", "fields", "said"),
    [
        ("pace", {}, "one of the four"),
        ("pace", {"pace": "SHARE", "share": "60", "rate": "5"}, "one of the four"),
        *(
            ("cancel", {"typed_name": typed}, "type the name of the batch: pallet-7")
            for typed in ("", "pallet", "PALLET-7", "pallet-77", "pallet -7")
        ),
        ("cancel", {}, "type the name of the batch: pallet-7"),
        *(
            ("replay", {"reason": reason}, "This reason does not exist")
            for reason in ("nothing", "LOCKED", "locked' OR 1=1 --")
        ),
        *(
            (
                command,
                {"ticket": ticket, "pace": "adapt", "typed_name": "pallet-7"},
                "ticket has at most 200 printable char",
            )
            for command in COMMANDS
            for ticket in ("x" * (LONGEST_TICKET + 1), "CHG\x00", "CHG\n7", "CHG\u202e7")
        ),
    ],
)
def test_what_does_not_fit_is_refused(command: str, fields: dict[str, str], said: str) -> None:
    with pytest.raises(Unfit, match=said):
        give(command, **fields)


def test_a_search_leaves_out_what_is_empty_or_what_there_is_none_of() -> None:
    assert read_sought({"text": "  ", "batch": "", "status": "broken", "reason": "nothing"}) is None
    assert read_sought({"text": " ACME ", "batch": ""}) == Sought(text="ACME")
    sought = {"status": "dead_letter", "reason": "locked", "batch": "july"}
    assert read_sought(sought) == Sought(**sought)


@pytest.mark.parametrize("name", ["a/b", "a?b", "a&name=c", "a#b", "50%", "a b", "a+b", "é", '"', "../x"])
def test_any_name_can_stand_in_an_address(name: str) -> None:
    parts = urlsplit(link_to("/batch", name=name, form=""))
    assert (parts.path, parse_qs(parts.query)) == ("/batch", {"name": [name]})
