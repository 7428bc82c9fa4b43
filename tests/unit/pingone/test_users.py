"""Users are found by their names, whatever PingOne leaves out of an answer or adds to it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from support.data.recorded_answers import REFUSED_READS, names_of, opened

from worker.config.environment import Environment
from worker.pingone.errors import ForeignLink, OutcomeUnknown, PingOneError, Rejected, TooManyTerms
from worker.pingone.users import NAMES_PER_REQUEST, User, UserAttribute, build_users_url, parse_users
from worker.pingone.wire import Page

ADA = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42"
OTHER = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d43"
WHOLE = User(
    id=ADA,
    username="a.lovelace",
    email="a.lovelace@example.com",
    external_id="E-1815",
    is_enabled=True,
    can_authenticate=True,
    is_locked=False,
)
PAGES = {
    "one": [ADA],
    "first_page": [ADA],
    "hal": [ADA],
    "two_with_one_email": [ADA, OTHER],
    "locked_and_disabled": [ADA, OTHER],
    "ids_alone": [ADA],
    "unknown_words": [ADA],
    "wrong_types": [ADA],
    "control_characters": [ADA],
    "digits_as_names": [ADA],
    "next_null": [ADA],
    "next_without_host": [ADA],
    "none": [],
    "none_embedded_empty": [],
    "none_not_embedded": [],
    "none_without_links": [],
    "none_as_null": [],
}
REFUSALS: dict[str, type[PingOneError]] = {
    "without_id": OutcomeUnknown,
    "not_objects": OutcomeUnknown,
    "embedded_is_a_list": OutcomeUnknown,
    "users_are_an_object": OutcomeUnknown,
    "count_without_users": OutcomeUnknown,
    "empty_object": OutcomeUnknown,
    "error_in_a_200": OutcomeUnknown,
    "next_without_href": OutcomeUnknown,
    "next_at_another_host": ForeignLink,
    "next_at_another_host_without_scheme": ForeignLink,
    "next_at_another_environment": ForeignLink,
    "next_at_no_tls": ForeignLink,
    "invalid_filter": TooManyTerms,
    "invalid_filter_as_code": TooManyTerms,
    "uri_too_long": TooManyTerms,
    "headers_too_large": TooManyTerms,
    "headers_too_large_by_proxy": TooManyTerms,
    "invalid_parameter": Rejected,
}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def read(name: str, environment: Environment) -> Page[User]:
    return parse_users(opened(name), environment=environment)


def find_filter(environment: Environment, attribute: UserAttribute, *names: str) -> str:
    parts = urlsplit(build_users_url(environment, attribute, names))
    assert parts.path == f"/v1/environments/{environment.environment_id}/users"
    (found,) = parse_qs(parts.query)["filter"]
    return found


def test_names_become_the_terms_of_one_filter(environment: Environment) -> None:
    assert find_filter(environment, UserAttribute.EMAIL, "a@x.org", "b@x.org") == (
        '(email eq "a@x.org") or (email eq "b@x.org")'
    )
    assert find_filter(environment, UserAttribute.EXTERNAL_ID, "E-1") == '(externalId eq "E-1")'


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ('a" or username sw "', 'username eq "a\\" or username sw \\""'),
        ("DOMAIN\\ada", 'username eq "DOMAIN\\\\ada"'),
        ("a+b&c=d#e f%20", 'username eq "a+b&c=d#e f%20"'),
        ("Zoë", 'username eq "Zoë"'),
    ],
)
def test_a_name_cannot_end_its_term(environment: Environment, name: str, term: str) -> None:
    assert find_filter(environment, UserAttribute.USERNAME, name) == f"({term})"


@pytest.mark.parametrize("names", [[], [""], ["ada", ""]])
def test_no_name_makes_no_address_for_it_would_list_everybody(environment: Environment, names: list[str]) -> None:
    with pytest.raises(ValueError, match="name"):
        build_users_url(environment, UserAttribute.USERNAME, names)


def test_as_many_long_addresses_as_we_send_fit_into_a_header(environment: Environment) -> None:
    names = [f"first-name.family-name.{number:03d}@subsidiary.example.com" for number in range(NAMES_PER_REQUEST)]
    assert len(build_users_url(environment, UserAttribute.EMAIL, names)) < 4500


@pytest.mark.parametrize(("name", "ids"), PAGES.items())
def test_every_recorded_page_is_read(environment: Environment, name: str, ids: list[str]) -> None:
    assert [user.id for user in read(f"users/{name}", environment).items] == ids


@pytest.mark.parametrize(
    ("name", "error"), ({f"users/{name}": error for name, error in REFUSALS.items()} | REFUSED_READS).items()
)
def test_every_recorded_refusal_becomes_its_error(
    environment: Environment, name: str, error: type[PingOneError]
) -> None:
    with pytest.raises(PingOneError) as caught:
        read(name, environment)
    assert type(caught.value) is error


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("users") == {*PAGES, *REFUSALS}


def test_a_user_is_read_whole(environment: Environment) -> None:
    assert read("users/one", environment).items == (WHOLE,)
    assert read("users/hal", environment).items == (WHOLE,)
    assert [WHOLE.find(attribute) for attribute in UserAttribute] == ["a.lovelace", "a.lovelace@example.com", "E-1815"]


def test_who_cannot_sign_on_is_told(environment: Environment) -> None:
    locked, disabled = read("users/locked_and_disabled", environment).items
    assert (locked.is_locked, locked.can_authenticate, locked.is_enabled) == (True, False, True)
    assert (disabled.is_locked, disabled.is_enabled) == (False, False)


@pytest.mark.parametrize("name", ["ids_alone", "wrong_types"])
def test_what_is_missing_or_of_a_wrong_type_is_not_known(environment: Environment, name: str) -> None:
    assert read(f"users/{name}", environment).items == (User(ADA),)


def test_unknown_words_are_not_known(environment: Environment) -> None:
    (user,) = read("users/unknown_words", environment).items
    assert (user.is_enabled, user.can_authenticate, user.is_locked) == (None, None, None)
    assert user.username == "a.lovelace"


def test_names_come_as_they_are_unless_no_database_would_take_them(environment: Environment) -> None:
    (user,) = read("users/control_characters", environment).items
    assert (user.username, user.email, user.external_id) == (None, None, None)
    (user,) = read("users/digits_as_names", environment).items
    assert user.username == "12345678"


def test_the_next_page_is_told_as_pingone_gave_it(environment: Environment) -> None:
    page = read("users/first_page", environment)
    assert page.next_url is not None
    assert page.next_url.endswith("/users?cursor=RjE6dXNlcnM6MTAw&limit=200")
    assert read("users/one", environment).next_url is None
    assert read("users/next_null", environment).next_url is None


def test_the_address_of_the_next_page_may_leave_out_the_host(environment: Environment) -> None:
    assert read("users/next_without_host", environment).next_url == read("users/first_page", environment).next_url
    with pytest.raises(ForeignLink):
        read("users/next_at_another_host_without_scheme", environment)


def test_a_foreign_link_is_not_quoted(environment: Environment) -> None:
    with pytest.raises(ForeignLink) as caught:
        read("users/next_at_another_host", environment)
    assert "pingone.com" not in str(caught.value)


def test_a_repr_does_not_tell_who_it_is(environment: Environment) -> None:
    text = repr(read("users/first_page", environment))
    assert "lovelace" not in text
    assert "E-1815" not in text
    assert "cursor" not in text
