"""A desk without a socket, and a browser of one person before it."""

import asyncio
import re
from html import unescape
from typing import Any

import httpx

from worker.desk.app import Desk, link_to, make_app
from worker.desk.security import FORM_KEY, Forms, LinkLogin, Login
from worker.installation.installation import Installation

HOST = "127.0.0.1:8765"
ORIGIN = f"http://{HOST}"
PERSON = "alice"
# As a proxy on this machine.
CLIENT = ("127.0.0.1", 40_000)
_KEY = re.compile(rf'name="{FORM_KEY}" value="([0-9a-f]+)"')


class WebDesk:
    """The desk of an installation. `links` are those that it has shown, the path of each; `headers` go with every
    request; `client` is the address from which requests come."""

    def __init__(self, installation: Installation, login: Login | None = None, *, is_read_only: bool = False) -> None:
        self.links: list[str] = []
        self.headers: list[tuple[str, str]] = []
        self.client = CLIENT
        self.cookies = httpx.Cookies()
        self.desk = Desk(
            installation,
            login or LinkLogin(PERSON, "desk", self.links.append),
            Forms([ORIGIN]),
            lambda error: f"a server failed: {type(error).__name__}",
            is_read_only,
        )
        self._app = make_app(self.desk, [HOST])

    def enter(self) -> httpx.Response:
        """Use the latest link."""
        return self.get(self.links[-1])

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return self.request("GET", link_to(path, **parameters))

    def read(self, path: str, **parameters: str) -> str:
        """A page that is there."""
        answer = self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.text

    def read_form_key(self, command: str, batch: str, **about: str) -> str:
        """The key in the form that confirms a command."""
        found = _KEY.search(self.read(f"/batch/{command}", name=batch, **about))
        assert found
        return found[1]

    def command(self, command: str, batch: str, **fields: str) -> httpx.Response:
        """Confirm a command on its page."""
        fields[FORM_KEY] = self.read_form_key(command, batch)
        return self.post(link_to(f"/batch/{command}", name=batch), fields)

    def command_well(self, command: str, batch: str, **fields: str) -> str:
        """Confirm a command that is done: what the batch's page then says of it."""
        answer = self.command(command, batch, **fields)
        assert answer.status_code == 303, answer.text
        said = re.search(
            r'<div class="done" role="status">(.*?)</div>', self.read(answer.headers["location"]), re.DOTALL
        )
        assert said
        lines = re.findall(r"<p>(.*?)</p>", said[1], re.DOTALL)
        return unescape(re.sub(r"<[^>]+>", "", "\n".join(lines)))

    def post(self, path: str, fields: dict[str, str], origin: str | None = ORIGIN) -> httpx.Response:
        return self.request("POST", path, headers=[("Origin", origin)] if origin else [], data=fields)

    def request(
        self, method: str, path: str, *, headers: list[tuple[str, str]] | None = None, **body: Any
    ) -> httpx.Response:
        """Make a request; redirects are answers. What the desk raises is answered by it all the same."""
        return asyncio.run(self._request(method, path, [*self.headers, *(headers or [])], body))

    async def _request(
        self, method: str, path: str, headers: list[tuple[str, str]], body: dict[str, Any]
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=self.client)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, cookies=self.cookies) as client:
            sent = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]
            answer = await client.request(method, path, headers=sent, **body)
            self.cookies = client.cookies
            return answer
