"""Manifests: JSON lines, one sample each (002 §2.3.2.2, tables 2-2 to 2-8)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from bottega.errors import Conflict, Invalid
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.sample import CONTENT, HUMAN, USAGES, Annotation, BadSample, SampleRecord

TYPE_PREFIX = "modelarts/"
VOC = "PASCAL VOC"
"""The one ``annotation-format`` there is (002 §2.3.2.2)."""
MAX_LINE = 2**20
"""Bytes; a longer line is reported and left out."""
_READ_AT_ONCE = 4 * 2**20
PLAIN = re.compile(r"s3://[A-Za-z0-9.-]{3,63}(?:/[^/\x00-\x1f]+)+")
"""What nearly every source looks like and needs no closer look, unless a part of it begins with a dot."""
_TRUE, _FALSE = ("true", "1"), ("false", "0")


def parse_line(line: bytes) -> SampleRecord:
    """Read one line. Raises BadSample, which names the field and the rule."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise BadSample(f"not a JSON object: {e}") from e
    return parse_data(data)


def parse_data(data: Any) -> SampleRecord:
    """Read what a line says. Raises as `parse_line`."""
    if not isinstance(data, dict):
        raise BadSample(f"a line must be a JSON object, not {type(data).__name__}")
    source = _source(_text(data, "source", required=True))
    usage = _text(data, "usage")
    if usage and usage.upper() not in USAGES:
        raise BadSample(f"usage '{usage}' is none of {', '.join(USAGES)}")
    found = data.get("annotation")
    if found is None:
        found = []
    elif not isinstance(found, list):
        raise BadSample("annotation must be a list of objects")
    return SampleRecord(
        source=source,
        annotations=[read_annotation(one, index) for index, one in enumerate(found)],
        usage=usage.upper() or None,
        id=_text(data, "id") or None,
        inference_loc=_text(data, "inference-loc") or None,
        name="" if source.startswith(CONTENT) else source.rpartition("/")[2],
        property=_property(data),
    )


def format_line(record: SampleRecord) -> bytes:
    """Write one line, with its newline. Fields without a value are left out; their order is fixed."""
    data: dict[str, Any] = {"source": record.source}
    if record.usage:
        data["usage"] = record.usage
    if record.id:
        data["id"] = record.id
    if record.annotations:
        data["annotation"] = [write_annotation(one) for one in record.annotations]
    if record.property:
        data["property"] = record.property
    if record.inference_loc:
        data["inference-loc"] = record.inference_loc
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)


class ManifestReader:
    """The lines of a manifest in storage, read in pieces, from any byte offset on.

    :param etag: when the reading goes on after an interruption: what the object must still be.
    """

    def __init__(self, store: ObjectStore, path: ObjectPath, *, offset: int = 0, etag: str | None = None) -> None:
        self._store = store
        self._path = path
        self._offset = offset
        self.etag = etag
        self.size = 0

    async def open(self) -> None:
        """Raises Conflict when the object is another one than before, NotFound when it is not there."""
        info = await self._store.head(self._path)
        if self.etag is not None and info.etag != self.etag:
            raise Conflict(f"{self._path} was changed while it was being read; import it again")
        self.etag, self.size = info.etag, info.size

    async def lines(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """Each line with the offset behind it; None stands for one longer than `MAX_LINE`. Raises as `open`."""
        await self.open()
        async for behind, block in self.blocks():
            if block is None:
                yield behind, None
                continue
            position = behind - len(block)
            for line in block.removesuffix(b"\n").split(b"\n"):
                position = min(position + len(line) + 1, behind)
                yield position, None if len(line) > MAX_LINE else line

    async def blocks(self, size: int = _READ_AT_ONCE) -> AsyncIterator[tuple[int, bytes | None]]:
        """Whole lines of about `size` bytes together, with the offset behind them; the next are read meanwhile.

        None stands for one line that is longer than `MAX_LINE` and than `size`.
        """
        rest, too_long = b"", False
        position = self._offset
        async for piece in self._pieces(size):
            position += len(piece)
            end = piece.rfind(b"\n") + 1
            if too_long and end:
                start = piece.index(b"\n") + 1
                yield position - len(piece) + start, None
                piece, end, too_long = piece[start:], end - start, False
            if end:
                yield position - len(piece) + end, rest + piece[:end]
                rest = piece[end:]
            elif not too_long:
                rest += piece
            if len(rest) > max(MAX_LINE, size):
                rest, too_long = b"", True
        if rest or too_long:
            yield self.size, None if too_long else rest

    async def _pieces(self, size: int) -> AsyncIterator[bytes]:
        starts = range(self._offset, self.size, size)
        ahead: asyncio.Task[bytes] | None = None
        try:
            for start in starts:
                piece = await (ahead or self._piece(start, size))
                following = start + size
                ahead = asyncio.create_task(self._piece(following, size)) if following < self.size else None
                yield piece
        finally:
            if ahead is not None:
                ahead.cancel()

    async def _piece(self, start: int, size: int) -> bytes:
        return await self._store.get(self._path, start, min(start + size, self.size) - 1)


def _source(text: str) -> str:
    if text.startswith(CONTENT):
        if not text[len(CONTENT) :].strip():
            raise BadSample("source carries no text after 'content://'")
        return text
    if text.startswith(("https://", "http://")) or (PLAIN.fullmatch(text) and "/." not in text):
        return text
    try:
        path = ObjectPath.parse(text, "source")
    except Invalid as e:
        raise BadSample(e.message) from e
    if not path.key or path.key.endswith("/"):
        raise BadSample(f"source '{text}' is a folder; a sample is one object")
    return str(path)


def read_annotation(data: Any, index: int) -> Annotation:
    """An annotation as manifests write it, the `index`-th of its sample. Raises BadSample."""
    where = f"annotation[{index}]"
    if not isinstance(data, dict):
        raise BadSample(f"{where} must be an object")
    confidence = data.get("confidence")
    if confidence is not None:
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise BadSample(f"{where}.confidence must be a number from 0 to 1")
        confidence = float(confidence)
    created = _text(data, "creation-time", where)
    return Annotation(
        type=_text(data, "type", where, required=True).removeprefix(TYPE_PREFIX),
        name=_text(data, "name", where),
        property=_property(data, where),
        hard=_hard(data.get("hard"), where),
        annotated_by=_text(data, "annotated-by", where) or HUMAN,
        created_at=parse_time(created) if created else None,
        confidence=confidence,
        id=_text(data, "id", where) or None,
        loc=_location(data, where) if "annotation-loc" in data else None,
    )


def write_annotation(one: Annotation) -> dict[str, Any]:
    """What `read_annotation` reads; fields without a value are left out."""
    data: dict[str, Any] = {"type": TYPE_PREFIX + one.type}
    if one.name:
        data["name"] = one.name
    if one.id:
        data["id"] = one.id
    if one.loc:
        data["annotation-loc"] = one.loc
        data["annotation-format"] = VOC
    if one.property:
        data["property"] = one.property
    if one.hard is not None:
        data["hard"] = "true" if one.hard else "false"
    data["annotated-by"] = one.annotated_by
    if one.created_at is not None:
        data["creation-time"] = format_time(one.created_at)
    if one.confidence is not None:
        data["confidence"] = one.confidence
    return data


def _property(data: dict[str, Any], where: str = "") -> dict[str, Any] | None:
    value = data.get("property")
    if value is not None and not isinstance(value, dict):
        raise BadSample(f"{where + '.' if where else ''}property must be an object")
    return value or None


def _location(data: dict[str, Any], where: str) -> str | None:
    """The file an annotation's content lies in, as ``s3://bucket/key``."""
    location = _text(data, "annotation-loc", where)
    if not location:
        return None
    form = _text(data, "annotation-format", where) or VOC
    if form != VOC:
        raise BadSample(f"{where}.annotation-format '{form}' is not read here; only '{VOC}' is")
    try:
        path = ObjectPath.parse(location, f"{where}.annotation-loc")
    except Invalid as e:
        raise BadSample(e.message) from e
    if not path.key or path.key.endswith("/"):
        raise BadSample(f"{where}.annotation-loc '{location}' is a folder; it must name a file")
    return str(path)


def _text(data: dict[str, Any], name: str, where: str = "", *, required: bool = False) -> str:
    value = data.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise BadSample(f"{where + '.' if where else ''}{name} must be {'a non-empty' if required else 'a'} text")
    return value


def _hard(value: Any, where: str) -> bool | None:
    if value is None or value == "":
        return None
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise BadSample(f"{where}.hard must be true or false")
    return text in _TRUE


@lru_cache(4096)
def parse_time(text: str) -> int:
    """Epoch milliseconds of ``2019-01-23 11:30:30``, which is UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise BadSample(f"creation-time '{text}' is not of the form 2019-01-23 11:30:30") from e
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@lru_cache(4096)
def format_time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
