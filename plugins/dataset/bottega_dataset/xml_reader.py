"""XML from strangers: read without ever following or expanding anything in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from bottega_dataset.sample import BadSample

MAX_XML = 16 * 2**20
"""Bytes of a file."""
_DEEPEST = 64
_BLOCK = 64 * 1024


def read_xml(data: bytes) -> Element:
    """The root element. Raises BadSample for what is no XML, too large or too deep, or has a document type.

    A document type is where entities are defined, which grow without bound ("billion laughs") or name other files;
    annotation files have none.
    """
    if len(data) > MAX_XML:
        raise BadSample(f"the XML is larger than {MAX_XML // 2**20} MB")
    parser, builder, depth = expat.ParserCreate(), TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise BadSample(f"the XML has elements more than {_DEEPEST} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as e:
        raise BadSample(f"not XML: {e}") from e
    except (ValueError, LookupError) as e:  # an encoding that Python or expat does not know
        raise BadSample(f"not XML: {e}") from e
    return builder.close()


def read_elements(file: BinaryIO, tag: str) -> Iterator[Element]:
    """The elements of this name right below the root, one after the other, however large the file is.

    Raises BadSample as `read_xml` does, at the place where the file goes wrong.
    """
    parser, depth = expat.ParserCreate(), 0
    builder: TreeBuilder | None = None
    done: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, builder
        depth += 1
        if depth > _DEEPEST:
            raise BadSample(f"the XML has elements more than {_DEEPEST} deep")
        if depth == 2 and name == tag:
            builder = TreeBuilder()
        if builder is not None:
            builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth, builder
        depth -= 1
        if builder is not None:
            builder.end(name)
            if depth == 1:
                done.append(builder.close())
                builder = None

    def data(text: str) -> None:
        if builder is not None:
            builder.data(text)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    parser.StartDoctypeDeclHandler = _refuse
    parser.buffer_text = True
    since = 0
    try:
        while True:
            block = file.read(_BLOCK)
            parser.Parse(block, not block)
            since = 0 if done or builder is None else since + len(block)
            if since > MAX_XML:
                raise BadSample(f"an element is larger than {MAX_XML // 2**20} MB")
            yield from done
            done.clear()
            if not block:
                return
    except (expat.ExpatError, ValueError, LookupError) as e:
        raise BadSample(f"not XML: {e}") from e


def _refuse(*_: object) -> None:
    raise BadSample("the XML has a document type (<!DOCTYPE …>), which may define entities; it must have none")
