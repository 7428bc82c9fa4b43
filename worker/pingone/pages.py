"""Lists, as PingOne answers them: pages of items under `_embedded`, and the address of the next page. Pure.

Neither the size of a page nor a total is promised: what counts is whether there is a next page.
https://developer.pingidentity.com/pingone-api/foundations/conventions/pingone-api-responses.html
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import urljoin

from worker.config.environment import Environment
from worker.pingone.errors import Answer, ForeignLink, OutcomeUnknown, PingOneError
from worker.pingone.wire import Envelope, build_url, choose_error, find_part, is_in_environment

T = TypeVar("T")

# Makes an item of its JSON object; None where that lacks its id.
ReadItem = Callable[[Mapping[str, Any]], T | None]


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list."""

    items: tuple[T, ...]
    # The address of the next page, as PingOne gave it, but for a host that it left out; None on the last page.
    next_url: str | None = field(repr=False)
    answer: Answer


def check_onward(page: Page[T], before: Page[T] | None, known: Collection[str]) -> None:
    """Raise OutcomeUnknown where a list does not come to its end: the page leads to an address in `known`, which was
    read, or it has the very items of the page before it, and leads on."""
    is_repeated = before is not None and page.items == before.items and bool(page.items and page.next_url)
    if is_repeated or page.next_url in known:
        raise OutcomeUnknown(replace(page.answer, message="the pages of a list lead back to one of them"))


def build_equation(attribute: str, value: str) -> str:
    """Build a term of a filter, such as `username eq "a"`. Raises ValueError for an empty value: nothing has it.
    https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html"""
    if not value:
        raise ValueError("an empty name, which nothing can be found by")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{attribute} eq "{escaped}"'


def parse_page(
    envelope: Envelope,
    *,
    environment: Environment,
    name: str,
    read_item: ReadItem[T],
    choose: Callable[[Envelope], PingOneError] = choose_error,
) -> Page[T]:
    """Read a page from an answer: the items under `_embedded` and this name. `choose` names the error for an answer
    that is no page. Raises ForeignLink too."""
    listed = _find_list(envelope, name)
    if listed is None:
        raise choose(envelope)
    items = [read_item(each) if isinstance(each, Mapping) else None for each in listed]
    known = tuple(item for item in items if item is not None)
    if len(known) < len(items):
        # Left out, it would look as if it did not exist.
        raise OutcomeUnknown(replace(envelope.answer, message="a list with an item that cannot be read"))
    return Page(known, _find_next_url(envelope, environment), envelope.answer)


def _find_list(envelope: Envelope, name: str) -> list[Any] | None:
    """Find the items in a 2xx answer; None if there is no readable list. An empty one may lack `_embedded`, or have
    nothing in it, or null. The name is not published for every list, so that another one is taken where it is the only
    one."""
    fields = envelope.fields
    if fields is None or not envelope.is_success:
        return None
    embedded = fields.get("_embedded")
    if isinstance(embedded, dict):
        embedded = {key: value for key, value in embedded.items() if value is not None}
    if not embedded and isinstance(embedded, dict | None):
        return [] if _is_empty(fields) else None
    if not isinstance(embedded, dict):
        return None
    found = [embedded[name]] if name in embedded else list(embedded.values())
    return found[0] if len(found) == 1 and isinstance(found[0], list) else None


def _is_empty(fields: Mapping[str, Any]) -> bool:
    """Whether an answer without items is a list all the same, and says of no count that there are any."""
    counts = [count for name in ("count", "size") if (count := fields.get(name)) is not None]
    return all(count == 0 for count in counts) and ("_links" in fields or "_embedded" in fields or bool(counts))


def _find_next_url(envelope: Envelope, environment: Environment) -> str | None:
    """Find the address of the next page. Raises ForeignLink unless it lies in this environment, and OutcomeUnknown
    where it cannot be read."""
    link = find_part(envelope.fields, "_links", "next")
    if link is None:
        return None
    url = find_part(link, "href")
    if not isinstance(url, str):
        raise OutcomeUnknown(replace(envelope.answer, message="a next page without an address"))
    if url.startswith("/"):
        url = urljoin(build_url(environment), url)
    if not is_in_environment(environment, url):
        raise ForeignLink(replace(envelope.answer, message="the next page is not in our environment's API"))
    return url
