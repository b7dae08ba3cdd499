"""Bodies of ``multipart/form-data`` (002 §7.2.4: ``curl -F 'images=@picture.png'``)."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bottega.errors import Invalid

_MAX_PARTS = 64


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; `file_name` is None for a plain text field."""

    field: str
    file_name: str | None
    content: bytes


def parse_form(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form, in their order. Raises Invalid for a body that is none, or has more than 64 parts."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Invalid("Content-Type: multipart/form-data needs a boundary; let the HTTP client write this header")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.begin,
                "on_part_data": collector.data,
                "on_part_end": collector.end,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_end": collector.finish,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as problem:
        raise Invalid(f"the body is not multipart/form-data: {problem}") from problem
    if not collector.complete:
        raise Invalid("the body is not multipart/form-data: its closing boundary is missing")
    return collector.parts


class _Collector:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._content: list[bytes] = []
        self._name: list[bytes] = []
        self._value: list[bytes] = []
        self._disposition = b""

    def begin(self) -> None:
        if len(self.parts) >= _MAX_PARTS:
            raise Invalid(f"the form has more than {_MAX_PARTS} parts")
        self._content, self._disposition = [], b""

    def data(self, chunk: bytes, start: int, end: int) -> None:
        self._content.append(chunk[start:end])

    def header_field(self, chunk: bytes, start: int, end: int) -> None:
        self._name.append(chunk[start:end])

    def header_value(self, chunk: bytes, start: int, end: int) -> None:
        self._value.append(chunk[start:end])

    def header_end(self) -> None:
        if b"".join(self._name).lower() == b"content-disposition":
            self._disposition = b"".join(self._value)
        self._name, self._value = [], []

    def end(self) -> None:
        header = Message()
        header["Content-Disposition"] = self._disposition.decode("utf-8", "replace")
        field = header.get_param("name", header="Content-Disposition")
        if not isinstance(field, str):
            raise Invalid('each part of the form needs Content-Disposition: form-data; name="..."')
        self.parts.append(Part(field, header.get_filename(), b"".join(self._content)))

    def finish(self) -> None:
        self.complete = True
