"""XML from strangers: read without ever following or expanding anything in it."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from bottega_dataset.sample import BadSample

MAX_XML = 16 * 2**20
"""Bytes of a file."""
_DEEPEST = 64


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

    def refuse(*_: object) -> None:
        raise BadSample("the XML has a document type (<!DOCTYPE …>), which may define entities; it must have none")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except expat.ExpatError as e:
        raise BadSample(f"not XML: {e}") from e
    except (ValueError, LookupError) as e:  # an encoding that Python or expat does not know
        raise BadSample(f"not XML: {e}") from e
    return builder.close()
