"""What is refused because another site may have sent it, and what browsers are told about every page."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from support.servers.web_desk import HOST, ORIGIN, WebDesk

from worker.desk import app
from worker.desk.app import FORM_KEY, HEADERS
from worker.installation.installation import Installation


@pytest.fixture
def inside(desk: WebDesk) -> WebDesk:
    """A desk into which somebody has come."""
    desk.enter()
    return desk


def fail_with(error: Exception) -> app.View:
    def fail(*_: object) -> Any:
        raise error

    return fail


# Hosts.


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "127.0.0.1:8765.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/batch?name=x", "/style.css", "/enter?key=x", "/nothing"])
def test_another_name_gets_no_page_of_ours(inside: WebDesk, host: str, path: str) -> None:
    refused = inside.request("GET", path, headers=[("Host", host)])
    assert refused.status_code == 421
    assert refused.text == "This desk does not answer to that name.\n"


def test_a_link_that_comes_under_another_name_is_not_used_up(desk: WebDesk) -> None:
    assert desk.request("GET", desk.links[0], headers=[("Host", "evil.example")]).status_code == 421
    assert len(desk.links) == 1


def test_the_name_of_the_desk_may_be_written_in_capitals(installation: Installation) -> None:
    desk = WebDesk(installation)
    guarded = app.make_app(desk.desk, ["desk.example"])
    desk._app = guarded
    assert desk.request("GET", "/style.css", headers=[("Host", "DESK.example")]).status_code == 200


# Headers.


def assert_guarded(answer: httpx.Response) -> None:
    assert {name: answer.headers.get_list(name) for name in HEADERS} == {name: [text] for name, text in HEADERS.items()}


def test_every_answer_has_every_header(inside: WebDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app._VIEWS, "/audit", fail_with(ZeroDivisionError("a secret")))
    broken = WebDesk(inside.desk.installation)
    answers = [broken.enter(), broken.get("/"), broken.get("/audit"), broken.get("/nothing"), broken.get("/style.css")]
    answers += [broken.request("PUT", "/"), broken.request("GET", "/", headers=[("Host", "evil.example")])]
    answers += [broken.post("/batch/pause?name=x", {}), broken.get("/batch"), broken.request("HEAD", "/")]
    broken.cookies.clear()
    answers.append(broken.get("/"))

    assert [answer.status_code for answer in answers] == [303, 200, 500, 404, 200, 405, 421, 403, 404, 200, 401]
    for answer in answers:
        assert_guarded(answer)


def test_the_policy_lets_nothing_in_from_elsewhere_and_no_script_stand_in_a_page() -> None:
    policy = dict(part.split(maxsplit=1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {source for name, source in policy.items() if name.endswith("-src")} == {"'none'", "'self'"}
    assert policy["form-action"] == "'self'"


# Failures.


def test_a_failure_of_ours_is_told_without_what_it_says(inside: WebDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app._VIEWS, "/audit", fail_with(ZeroDivisionError("308714")))
    broken = WebDesk(inside.desk.installation)
    broken.enter()
    answer = broken.get("/audit")
    assert answer.status_code == 500
    assert "Something failed in the desk itself." in answer.text
    assert "308714" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationalError("SELECT 308714", {}, Exception("gone")), "a server failed: OperationalError"),
        (NoConnection("QueuePool limit of size 4 reached"), "no connection free"),
    ],
)
def test_a_database_that_is_away_is_told_in_a_sentence(
    inside: WebDesk, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setitem(app._VIEWS, "/audit", fail_with(error))
    broken = WebDesk(inside.desk.installation)
    broken.enter()
    answer = broken.get("/audit")
    assert answer.status_code == 503
    assert said in answer.text
    assert "308714" not in answer.text


# Paths and queries.


@pytest.mark.parametrize(
    "path",
    ["/../style.css", "/style.css/../../app.py", "/%2e%2e/app.py", "/templates/desk.html", "/batch/../app.py", "//x"],
)
def test_no_path_leads_to_another_file(inside: WebDesk, path: str) -> None:
    async def ask() -> tuple[int, bytes]:
        # By hand: a client would shorten such a path before it sends it.
        said: list[dict[str, Any]] = []
        scope = {
            **{"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "client": ("127.0.0.1", 1)},
            **{"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
            "headers": [(b"host", HOST.encode()), (b"cookie", f"desk={inside.cookies['desk']}".encode())],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        await inside._app(scope, receive, send)
        return said[0]["status"], b"".join(message.get("body", b"") for message in said)

    status, body = asyncio.run(ask())
    assert status == 404
    assert b"import" not in body


@pytest.mark.parametrize(
    "path", ["/batch?name=%00", "/batch?name=a%00b", "/search?text=%00", "/token?of=" + 9000 * "x"]
)
def test_a_query_that_no_database_takes_is_refused_before_it_gets_there(inside: WebDesk, path: str) -> None:
    answer = inside.get(path)
    assert answer.status_code == 400
    assert answer.text == "The address has a NUL in it, or is too long.\n"


# Forms.

FORM = "/batch/pause?name=x"


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1", f"{ORIGIN}.evil.example"],
)
def test_a_form_from_elsewhere_is_refused_whatever_it_holds(inside: WebDesk, origin: str | None) -> None:
    visitor_key = inside.desk.forms.make_key(app.Visitor("alice", inside.cookies["desk"]))
    refused = inside.post(FORM, {FORM_KEY: visitor_key}, origin)
    assert refused.status_code == 403
    assert "sent by another site" in refused.text
    # From our own page, it would have been looked at: there is no batch yet.
    assert inside.post(FORM, {FORM_KEY: visitor_key}).status_code == 404


@pytest.mark.parametrize("key", ["", "wrong", "é", "0" * 64])
def test_a_form_without_the_key_of_its_session_is_refused(inside: WebDesk, key: str) -> None:
    for fields in ({FORM_KEY: key}, {}):
        refused = inside.post(FORM, fields)
        assert refused.status_code == 403
        assert "from before the desk was started" in refused.text


def test_the_form_of_one_session_is_none_of_another(inside: WebDesk) -> None:
    first = inside.desk.forms.make_key(app.Visitor("alice", inside.cookies["desk"]))
    inside.cookies.clear()
    inside.enter()
    assert inside.post(FORM, {FORM_KEY: first}).status_code == 403


def test_a_stranger_sends_no_form(desk: WebDesk) -> None:
    assert desk.post(FORM, {FORM_KEY: "0" * 64}).status_code == 401


def test_a_form_that_is_too_large_is_refused(inside: WebDesk) -> None:
    for size, status in ((app.MOST_BYTES // 2, 403), (app.MOST_BYTES + 1, 413), (100 * app.MOST_BYTES, 413)):
        assert inside.post(FORM, {"ticket": "x" * size}).status_code == status


def test_a_form_that_is_no_text_is_refused(inside: WebDesk) -> None:
    headers = [("Origin", ORIGIN), ("Content-Type", "application/x-www-form-urlencoded")]
    refused = inside.request("POST", FORM, headers=headers, content=b"\xff\xfe&%zz=%ff&" + b"=&" * 1000)
    assert refused.status_code == 403


def test_a_page_takes_no_form_where_there_is_no_command(inside: WebDesk) -> None:
    key = inside.desk.forms.make_key(app.Visitor("alice", inside.cookies["desk"]))
    for path in ("/batch/report?name=x", "/batch/destroy?name=x"):
        assert inside.post(path, {FORM_KEY: key}).status_code == 404
    for path in ("/", "/search", "/audit", "/token"):
        assert inside.post(path, {FORM_KEY: key}).status_code == 405
