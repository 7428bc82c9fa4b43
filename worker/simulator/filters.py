"""Filters of lists: `username eq "a"`, joined by `and`, `or` and parentheses. The simulator knows no other operator.

https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

T = TypeVar("T")

# An attribute and the value that it is to have.
Term = tuple[str, str]

_PARTS = re.compile(r'\s*(?:([()])|("(?:[^"\\]|\\.)*")|([A-Za-z][A-Za-z.]*))')
# Parentheses inside each other, and alternatives, that no filter of a client's needs.
_DEEPEST = 20
_MOST_ALTERNATIVES = 10_000


class BadFilter(Exception):
    """The filter is malformed, or has an attribute or operator that is not supported."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was read. An object passes if it has one of the terms in `any_of`, or all terms of one of
    `all_of_one`; `alternatives` are both, as they were written. `terms` is how many the filter has."""

    alternatives: tuple[frozenset[Term], ...]
    any_of: frozenset[Term]
    all_of_one: tuple[frozenset[Term], ...]
    terms: int

    def admits(self, values: Mapping[str, str | None]) -> bool:
        """Whether an object with these values by attribute passes. Values are compared with their case."""
        has = {(name, value) for name, value in values.items() if value is not None}
        return not self.any_of.isdisjoint(has) or any(terms <= has for terms in self.all_of_one)

    def find_candidates(
        self, indexed: Collection[str], find: Callable[[Term], Collection[T]], everything: Collection[T]
    ) -> Collection[T]:
        """Find what may pass: by a term of each alternative on one of the `indexed` attributes, or everything if one
        has none. No object is among them twice."""
        found: dict[int, T] = {}
        for terms in self.alternatives:
            term = next((term for term in terms if term[0] in indexed), None)
            if term is None:
                return everything
            found |= {id(item): item for item in find(term)}
        return found.values()


def read_filter(text: str, attributes: Collection[str]) -> Filter:
    """Read a filter on these attributes. Raises BadFilter."""
    reader = _Reader(_split(text), attributes)
    alternatives = reader.read_alternatives(0)
    if reader.ahead:
        raise BadFilter
    any_of = frozenset(term for terms in alternatives if len(terms) == 1 for term in terms)
    all_of_one = tuple(terms for terms in alternatives if len(terms) > 1)
    return Filter(tuple(alternatives), any_of, all_of_one, reader.terms)


class _Reader:
    """Reads a filter from its parts, as alternatives of which each is a set of terms; `ahead` is the next part."""

    def __init__(self, parts: Iterator[str], attributes: Collection[str]) -> None:
        self._parts, self._attributes = parts, attributes
        self.terms = 0
        self.ahead = next(parts, "")

    def read_alternatives(self, depth: int) -> list[frozenset[Term]]:
        """Read what is joined by `or`."""
        if depth > _DEEPEST:
            raise BadFilter
        alternatives = self._read_conjunction(depth)
        while self.ahead.lower() == "or":
            self._take()
            alternatives += self._read_conjunction(depth)
        return alternatives

    def _read_conjunction(self, depth: int) -> list[frozenset[Term]]:
        """Read what is joined by `and`."""
        alternatives = self._read_factor(depth)
        while self.ahead.lower() == "and":
            self._take()
            others = self._read_factor(depth)
            if len(alternatives) * len(others) > _MOST_ALTERNATIVES:
                raise BadFilter
            alternatives = [one | other for one, other in product(alternatives, others)]
        return alternatives

    def _read_factor(self, depth: int) -> list[frozenset[Term]]:
        """Read a term, or what stands in parentheses."""
        if self.ahead == "(":
            self._take()
            alternatives = self.read_alternatives(depth + 1)
            if self._take() != ")":
                raise BadFilter
            return alternatives
        attribute, operator, quoted = self._take(), self._take(), self._take()
        if attribute not in self._attributes or operator.lower() != "eq" or quoted[:1] != '"':
            raise BadFilter
        self.terms += 1
        try:
            return [frozenset({(attribute, json.loads(quoted))})]
        except ValueError:
            raise BadFilter from None

    def _take(self) -> str:
        taken, self.ahead = self.ahead, next(self._parts, "")
        return taken


def _split(text: str) -> Iterator[str]:
    """Split a filter into parentheses, quoted values and words. Raises BadFilter at anything else."""
    text, at = text.rstrip(), 0
    while at < len(text):
        part = _PARTS.match(text, at)
        if part is None:
            raise BadFilter
        at = part.end()
        yield next(filter(None, part.groups()))
