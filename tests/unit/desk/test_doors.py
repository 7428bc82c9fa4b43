"""Who may come in to the desk: whoever has the link, once; or whom a trusted proxy names."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_network
from urllib.parse import parse_qs, urlsplit

import pytest
from support.servers.web_desk import PERSON, WebDesk

from worker.desk.app import LONGEST_NAME, LinkDoor, ProxyDoor
from worker.installation.installation import Installation

HEADER = "X-Forwarded-User"


def key_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["key"][0]


# The link.


def test_a_link_lets_its_first_user_in_under_the_name_of_who_started_the_desk(desk: WebDesk) -> None:
    assert desk.get("/").status_code == 401
    entered = desk.enter()
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert PERSON in desk.read("/")


def test_the_cookie_is_kept_from_scripts_and_from_forms_of_other_sites(desk: WebDesk) -> None:
    cookie = desk.enter().headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    # It ends with the browser.
    assert "max-age" not in cookie
    assert "expires" not in cookie


def test_a_link_works_once_and_the_next_one_lets_another_browser_in(desk: WebDesk) -> None:
    (first,) = desk.links
    desk.enter()
    desk.cookies.clear()
    refused = desk.get(first)
    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers
    assert len(desk.links) == len(set(desk.links)) == 2
    assert desk.enter().status_code == 303
    assert desk.get("/").status_code == 200


def test_of_many_who_use_a_link_at_the_same_time_one_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[str] = []
    door = LinkDoor(PERSON, "desk", links.append)
    key, meeting, make = key_of(links[0]), threading.Barrier(2), secrets.token_urlsafe

    def meet(size: int) -> str:
        """Wait for another whose key was found right as well; where one at a time is looked at, nobody comes."""
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.5)
        return make(size)

    monkeypatch.setattr(secrets, "token_urlsafe", meet)
    with ThreadPoolExecutor(2) as threads:
        sessions = list(threads.map(door.enter, [key, key]))
    assert len([session for session in sessions if session]) == 1
    assert len(links) == 2


def test_a_program_that_only_asks_whether_the_page_is_there_does_not_use_the_link_up(desk: WebDesk) -> None:
    assert desk.request("HEAD", desk.links[0]).status_code == 401
    assert len(desk.links) == 1
    assert desk.enter().status_code == 303


@pytest.mark.parametrize("query", ["", "?key=", "?key=wrong", "?key=%F0%9F%94%91", "?key=%ED%A0%80", "?k"])
def test_a_wrong_key_lets_nobody_in_and_keeps_the_link(desk: WebDesk, query: str) -> None:
    refused = desk.get(f"/enter{query}")
    assert refused.status_code == 401
    assert "The terminal in which" in refused.text
    assert len(desk.links) == 1


def test_a_key_and_one_more_character_is_a_wrong_key(desk: WebDesk) -> None:
    link = desk.links[0]
    assert desk.get(link + "x").status_code == 401
    assert desk.get(link[:-1]).status_code == 401
    assert desk.get(f"/enter?key=wrong&{urlsplit(link).query}").status_code == 303


def test_a_made_up_session_is_none(desk: WebDesk) -> None:
    desk.enter()
    desk.cookies.clear()
    desk.headers = [("Cookie", "desk=made-up")]
    assert desk.get("/").status_code == 401


# The proxy.


@pytest.fixture
def behind_proxy(installation: Installation) -> WebDesk:
    return WebDesk(installation, ProxyDoor(HEADER, [ip_network("10.0.0.0/24"), ip_network("127.0.0.0/8")]))


def test_whom_the_proxy_names_comes_in_under_that_name(behind_proxy: WebDesk) -> None:
    assert behind_proxy.get("/").status_code == 401
    behind_proxy.headers = [(HEADER.lower(), " bob ")]
    assert '<p class="who-am-i">bob</p>' in behind_proxy.read("/")
    assert behind_proxy.get("/enter?key=").status_code == 404


def test_a_name_beyond_ascii_comes_in_as_proxies_write_it(behind_proxy: WebDesk) -> None:
    behind_proxy.headers = [(HEADER, "Renée à Paris")]
    assert "Renée à Paris" in behind_proxy.read("/")


@pytest.mark.parametrize("client", ["10.0.1.7", "192.168.0.1", "::1", "somewhere", ""])
def test_the_header_counts_from_the_proxys_addresses_only(behind_proxy: WebDesk, client: str) -> None:
    behind_proxy.headers = [(HEADER, "bob")]
    behind_proxy.client = (client, 1)
    refused = behind_proxy.get("/")
    assert refused.status_code == 401
    assert HEADER in refused.text
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
    behind_proxy.headers = [(HEADER, "x" * LONGEST_NAME)]
    assert behind_proxy.get("/").status_code == 200
