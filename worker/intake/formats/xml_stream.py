"""XML, element by element: yields the parts of a document that hold a token, and keeps nothing of those before.

A document with a DTD or an entity is refused (defusedxml), so that nothing is looked up and nothing expands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, iterparse

from worker.intake.formats.format import OpenFile
from worker.intake.rows import UnusableFile

# Bytes between the ends of two parts at most: it bounds the memory. A token with its certificates has some kilobytes.
MAX_PART = 2**20
# Elements inside each other at most; a token's are ten deep.
MAX_DEPTH = 64

CURE = "Ask for the file again, and use it as the vendor sent it"


class PlainElement(Element):
    """An element whose `findall` knows paths of plain names alone, such as `Data/Secret`. Python's own takes a fifth of
    all the time that PSKC takes: python-pskc calls it fifty times a key."""

    def findall(self, path: str, namespaces: object = None) -> list[Element]:
        """Find the elements on a path; their names are compared as they are."""
        found: list[Element] = [self]
        for name in path.split("/"):
            if name != ".":
                found = [child for element in found for child in element if child.tag == name]
        return found


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


def read_parts(file: OpenFile, names: Collection[str]) -> Iterator[Element]:
    """Yield the root, as soon as it begins and so without its content, and then every outermost element that has one of
    these names. Names come without their namespaces. Raises UnusableFile if the document is not well-formed XML, which
    may be known at its end only."""
    source = PartReader(file)
    try:
        yield from _read_parts(file, source, names)
    except ParseError as error:
        line, _ = error.position
        raise UnusableFile(file.path, "is no well-formed XML, or was cut off", CURE, row_number=line) from None
    except DefusedXmlException:
        raise UnusableFile(file.path, "has a document type (DTD) or entities, which are not read", CURE) from None
    except (ValueError, LookupError):
        raise UnusableFile(file.path, "is XML in an encoding that is not read", "Save it as UTF-8") from None


def _read_parts(file: OpenFile, source: PartReader, names: Collection[str]) -> Iterator[Element]:
    """Yield what `read_parts` yields. Raises what the parser raises."""
    open_elements: list[Element] = []
    # The depth of the part that is being read; 0 outside.
    part = 0
    parser = DefusedXMLParser(target=TreeBuilder(element_factory=PlainElement), forbid_dtd=True)
    for event, element in iterparse(source, events=("start", "end"), parser=parser):
        if event == "start":
            open_elements.append(element)
            if len(open_elements) > MAX_DEPTH:
                raise UnusableFile(file.path, f"has elements more than {MAX_DEPTH} deep", CURE)
            element.tag = element.tag.rpartition("}")[2]
            if len(open_elements) == 1:
                yield element
            elif not part and element.tag in names:
                part = len(open_elements)
            continue
        open_elements.pop()
        if part > len(open_elements):
            part = 0
            source.end_part()
            yield element
        if not part and open_elements:
            # What has ended outside of a part, or was one, is needed no more.
            del open_elements[-1][:]
