"""XML, element by element: yields the parts of a document that hold a token, and keeps nothing of those before.

A document with a DTD or an entity is refused (defusedxml), so that nothing is looked up and nothing expands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers.expat import errors

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from worker.intake.formats.format import OpenFile
from worker.intake.rows import UnusableFile

# Bytes between the ends of two parts at most: it bounds the memory. A token with its certificates has some kilobytes.
MAX_PART = 2**20
# Elements inside each other at most; a token's are ten deep.
MAX_DEPTH = 64
# Bytes that are given to the parser at once.
CHUNK = 2**14

CURE = "Ask for the file again, and use it as the vendor sent it"
# Problem and cure of a document that is not well-formed.
MALFORMED = ("is no well-formed XML, or was cut off", CURE)
# The same of errors that people make when they copy or save a document, by expat's codes.
SAVED_WRONG = {
    errors.codes[errors.XML_ERROR_MISPLACED_XML_PI]: (
        "has something before its XML declaration, such as a blank or an empty line",
        "Remove what stands before <?xml",
    ),
    errors.codes[errors.XML_ERROR_INCORRECT_ENCODING]: (
        "names an encoding in its first line that it does not have",
        'Save it as UTF-8, and write encoding="UTF-8" into its first line',
    ),
}

_FIND_CHILDREN = Element.findall


@lru_cache(maxsize=256)
def cut_namespace(name: str) -> str:
    """Cut the namespace off a name, as in `namespace}name`. A document has few names, and each of them often."""
    return name.rpartition("}")[2]


class PlainElement(Element):
    """An element whose `findall` knows paths of plain names alone, such as `Data/Secret`, and asks no map of
    namespaces: so it stays in C. python-pskc calls it fifty times a key."""

    __slots__ = ()

    def findall(self, path: str, namespaces: object = None) -> list[Element]:
        """Find the elements on a path; their names are compared as they are."""
        if "/" not in path:
            return _FIND_CHILDREN(self, path)
        name, _, rest = path.partition("/")
        return [below for child in _FIND_CHILDREN(self, name) for below in child.findall(rest)]


class PartReader:
    """The file that the parser reads: feeds the digest, and counts the bytes since the last part ended."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._since_part = 0

    def read(self, size: int) -> bytes:
        """Read some bytes. Raises UnusableFile if no part has ended for too long."""
        chunk = self._file.stream.read(size)
        self._file.digest.update(chunk)
        self._since_part += len(chunk)
        if self._since_part > MAX_PART:
            raise UnusableFile(self._file.path, f"has a part of more than {MAX_PART // 2**20} MiB", CURE)
        return chunk

    def end_part(self) -> None:
        """Count from here."""
        self._since_part = 0


class Nothing:
    """A target that wants nothing of the parser: PartBuilder takes the place of what makes a tree of the document."""


class PartBuilder:
    """Makes the elements of the parts, and of nothing else.

    The parser of defusedxml calls three functions in Python for the beginning of an element and three for its end, and
    makes a tree of the whole document. This listens to expat itself, which is the same and refuses the same."""

    def __init__(self, file: OpenFile, names: Collection[str], rename: Callable[[str], str]) -> None:
        self._file = file
        self._names = names
        self._rename = rename
        # How many elements are open, and how many were where the part began that is being read; 0 outside.
        self._depth = self._part = 0
        self._builder = TreeBuilder(element_factory=PlainElement)
        self._ended: list[Element] = []

    def listen_to(self, expat: Any) -> None:
        """Let expat tell of the elements. Their attributes come as dictionaries; one in a namespace is named
        `namespace}name`."""
        self._expat = expat
        expat.ordered_attributes = False
        expat.StartElementHandler = self._start
        expat.EndElementHandler = self._end

    def take(self) -> list[Element]:
        """Take the root, where it has begun, and the parts that have ended since the last time."""
        ended, self._ended = self._ended, []
        return ended

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnusableFile(self._file.path, f"has elements more than {MAX_DEPTH} deep", CURE)
        name = self._rename(tag)
        if self._part:
            self._builder.start(name, attributes)
        elif self._depth == 1:
            self._ended.append(PlainElement(name, attributes))
        elif name in self._names:
            self._begin_part(name, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if self._part:
            self._builder.end(tag)
            if self._depth < self._part:
                self._part = 0
                self._ended.append(self._builder.close())

    def _begin_part(self, name: str, attributes: dict[str, str]) -> None:
        """Begin a tree of its own for a part."""
        self._part = self._depth
        self._builder = TreeBuilder(element_factory=PlainElement)
        self._expat.CharacterDataHandler = self._builder.data
        self._builder.start(name, attributes)


def read_parts(
    file: OpenFile, names: Collection[str], rename: Callable[[str], str] = cut_namespace
) -> Iterator[Element]:
    """Yield the root, as soon as it begins and so without its content, and then every outermost element that has one of
    these names. `rename` makes the name of an element of `namespace}name`. Raises UnusableFile if the document is not
    well-formed XML, which may be known at its end only."""
    source = PartReader(file)
    try:
        yield from _read_parts(source, PartBuilder(file, names, rename))
    except ParseError as error:
        line, _ = error.position
        raise UnusableFile(file.path, *SAVED_WRONG.get(error.code, MALFORMED), row_number=line) from None
    except DefusedXmlException:
        raise UnusableFile(file.path, "has a document type (DTD) or entities, which are not read", CURE) from None
    except (ValueError, LookupError):
        raise UnusableFile(file.path, "is XML in an encoding that is not read", "Save it as UTF-8") from None


def _read_parts(source: PartReader, parts: PartBuilder) -> Iterator[Element]:
    """Yield what `read_parts` yields. Raises what the parser raises."""
    parser = DefusedXMLParser(target=Nothing(), forbid_dtd=True)
    parts.listen_to(parser.parser)
    fault: ParseError | None = None
    while fault is None and (chunk := source.read(CHUNK)):
        try:
            parser.feed(chunk)
        except ParseError as error:
            # What stands before the fault comes first.
            fault = error
        for part in parts.take():
            source.end_part()
            yield part
    if fault is not None:
        raise fault
    parser.close()
