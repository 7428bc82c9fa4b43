"""Filters of lists, as far as the simulator reads them."""

import pytest

from worker.simulator.filters import BadFilter, read_filter

ATTRIBUTES = ("username", "email", "population.id")
ADA = {"username": "ada", "email": "ada@example.com", "population.id": "p1"}
BOB = {"username": 'bo"b\\', "email": None, "population.id": "p1"}


def admitted(text):
    wanted = read_filter(text, ATTRIBUTES)
    return [name for name, values in (("ada", ADA), ("bob", BOB)) if wanted.admits(values)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('username eq "ada"', ["ada"]),
        (' ( username EQ "ada" ) ', ["ada"]),
        ('username eq "Ada"', []),
        ('username eq "bo\\"b\\\\"', ["bob"]),
        ('username eq "\\u0061da"', ["ada"]),
        ('(username eq "ada") or (email eq "x")', ["ada"]),
        ('username eq "x" OR population.id eq "p1"', ["ada", "bob"]),
        ('population.id eq "p1" and username eq "ada"', ["ada"]),
        ('population.id eq "p1" AND (username eq "ada" or email eq "ada@example.com")', ["ada"]),
        ('username eq "x" or population.id eq "p1" and email eq "ada@example.com"', ["ada"]),
        ('population.id eq "p1" and username eq "x"', []),
        ('username eq "or"or email eq "ada@example.com"', ["ada"]),
    ],
)
def test_a_filter_admits_what_has_its_values(text, found):
    assert admitted(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "username",
        "username eq",
        "username eq ada",
        'username sw "a"',
        'username in ["a", "b"]',
        'not (username eq "a")',
        'lastName eq "a"',
        'username eq "a" or',
        'username eq "a" username eq "b"',
        '(username eq "a"',
        'username eq "a")',
        'username eq "a',
        'username eq "a\\x"',
        'username eq "a\n"',
        "(" * 1000 + 'username eq "a"' + ")" * 1000,
        " and ".join(['(username eq "a" or email eq "b")'] * 20),
        "%",
    ],
)
def test_what_is_malformed_or_not_supported_is_refused(text):
    with pytest.raises(BadFilter):
        read_filter(text, ATTRIBUTES)


def test_terms_are_counted():
    assert read_filter('(username eq "a") or (username eq "a") or (email eq "b")', ATTRIBUTES).terms == 3


def test_candidates_are_found_by_what_is_indexed_and_each_of_them_once():
    found = {("a", "1"): ["one"], ("b", "2"): ["one", "two"]}

    def find(text):
        wanted = read_filter(text, ("a", "b", "c"))
        return list(wanted.find_candidates(("a", "b"), lambda term: found.get(term, []), ["everything"]))

    assert find('a eq "1" or b eq "2"') == ["one", "two"]
    assert find('c eq "3" and a eq "1"') == ["one"]
    assert find('a eq "1" or c eq "3"') == ["everything"]
    assert find('a eq "4"') == []
