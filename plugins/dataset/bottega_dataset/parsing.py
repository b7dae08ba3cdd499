"""From the text of a manifest to packed samples, as fast as Python goes: in this process or in one beside it."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import anyio
import orjson
from anyio.streams.buffered import BufferedByteReceiveStream

from bottega.errors import Unavailable
from bottega_dataset.extension_points import DatasetType, check
from bottega_dataset.manifest import MAX_LINE, PLAIN, parse_data, parse_time
from bottega_dataset.packing import Packed, Packer, Said, packed
from bottega_dataset.sample import CONTENT, USAGES, BadSample, Choice, Problem, SampleRecord, digest

SHOWN = 200
"""Characters of a bad line kept for the report."""
_LENGTH = struct.Struct("<Q")
_READY = b"\n"
_SAID_FIELDS = frozenset(("type", "name", "hard", "annotated-by", "creation-time", "confidence"))
_USAGES: dict[Any, str | None] = {None: None, "": None, **{usage: usage for usage in USAGES}}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What lines hold: samples that are wanted, how many are not, and what is wrong. `lines` counts all of them."""

    samples: Packed
    left_out: int
    problems: Sequence[Problem]
    lines: int


@dataclass(slots=True)
class Parser:
    """Reads lines for datasets of one type. `path` is what its reports call the manifest."""

    kind: DatasetType
    choice: Choice
    path: str
    _packer: Packer = field(default_factory=Packer)
    _problems: list[Problem] = field(default_factory=list)
    _left_out: int = 0
    _lines: int = 0
    _said: dict[tuple[Any, ...], Said] = field(default_factory=dict)
    _buckets: set[str] = field(default_factory=set)
    _probe: SampleRecord = field(default_factory=lambda: SampleRecord(""))

    def __call__(self, block: bytes, number: int) -> Parsed:
        """:param number: of the block's first line, for reports."""
        self.read(block, number)
        return self.taken()

    def taken(self) -> Parsed:
        """What was read since the last time."""
        found = Parsed(self._packer.finish(), self._left_out, self._problems, self._lines)
        self._packer, self._problems, self._left_out, self._lines = Packer(), [], 0, 0
        return found

    def read(self, block: bytes, number: int) -> int:
        """Read a block, of which `taken` tells. Returns how many lines it has."""
        packer, problems = self._packer, self._problems
        left_out = count = 0
        fast = self._fast if self.choice.everything else lambda data: False
        has_nul, may_be_long = b"\\u0000" in block, len(block) > MAX_LINE
        for count, line in enumerate(block.removesuffix(b"\n").split(b"\n"), 1):
            if not line or line.isspace():
                continue
            try:
                if may_be_long and len(line) > MAX_LINE:
                    raise too_long()
                try:
                    data = orjson.loads(line)
                except orjson.JSONDecodeError as e:
                    raise BadSample(f"not a JSON object: {e}") from e
                if has_nul and b"\\u0000" in line:
                    refuse_nul(data)
                if fast(data):
                    continue
                record = parse_data(data)
                elsewhere = [one.loc for one in record.annotations if one.loc]
                if elsewhere:
                    record = self.kind.expanded(record, dict.fromkeys(elsewhere, b""))
                wanted = self.choice.of(check(self.kind, record))
                if wanted is None:
                    left_out += 1
                else:
                    packer.add(wanted)
            except BadSample as e:
                problems.append(problem(self.path, number + count - 1, str(e), line))
        self._left_out += left_out
        self._lines += count
        return count

    def _fast(self, data: Any) -> bool:
        """Take a line of the plain kind, of which nearly all are. False: it is another, or has a mistake."""
        try:
            if type(data) is not dict:
                return False
            source, found, given = data["source"], data.get("annotation"), data.get("id")
            fields = 1 + ("annotation" in data) + ("usage" in data) + ("id" in data)
            if type(source) is not str or fields != len(data):
                return False
            usage = _USAGES[data.get("usage")]
            if source.startswith("s3://"):
                # A known bucket, and behind it nothing that a path must not have, or that needs a closer look.
                if source[: source.index("/", 5)] not in self._buckets:
                    if not PLAIN.fullmatch(source):
                        return False
                    self._buckets.add(source[: source.index("/", 5)])
                if not source.isprintable() or "/." in source or source.find("//", 5) > 0 or source[-1] == "/":
                    return False
                name = source[source.rindex("/") + 1 :]
            elif source.startswith(CONTENT) and given is None and not source[len(CONTENT) :].isspace():
                name = ""
                if len(source) == len(CONTENT):
                    return False
            else:
                return False
            ident = digest(source)
            if given is not None and given != ident.hex():
                return False
            self._probe.source = source
            self.kind.check_source(self._probe)
            said = self._annotations(found)
        except (BadSample, KeyError, TypeError):
            return False
        if said is None:
            return False
        packer = self._packer
        number = len(packer.ids)
        first = None
        for position, one in enumerate(said):
            index = packer.said.setdefault(one, len(packer.said))
            if position:
                packer.further.append((number, position, index))
            else:
                first = index
            if one[3]:
                packer.sparse.setdefault("hard", {})[number] = True
        packer.ids.append(ident)
        packer.sources.append(source)
        packer.names.append(name)
        packer.usages.append(usage)
        packer.first.append(first)
        return True

    def _annotations(self, found: Any) -> Sequence[Said] | None:
        """What plain annotations say; None when they are not plain. Raises BadSample, KeyError, TypeError as well."""
        if not found:
            return () if found is None or type(found) is list else None
        if type(found) is not list or not self.kind.labels_alone:
            return None
        said = []
        for one in found:
            kind, name, hard, by = one["type"], one["name"], one.get("hard"), one.get("annotated-by")
            if not one.keys() <= _SAID_FIELDS or (hard is not None and type(hard) is not str):
                return None
            known = self._said.get((kind, name, hard, by))
            if known is None:
                plain = {"type": kind, "name": name, "hard": hard, "annotated-by": by}
                record = parse_data({"source": self._probe.source, "annotation": [plain]})
                self.kind.check_annotations(record)
                known = self._said[kind, name, hard, by] = packed(record.annotations[0])
            created, confidence = one.get("creation-time"), one.get("confidence")
            if created is not None or confidence is not None:
                if confidence is not None and (type(confidence) is not float or not 0 <= confidence <= 1):
                    return None
                at = parse_time(created) if created else None
                known = (known[0], known[1], confidence, known[3], known[4], at, None, None)
            said.append(known)
        if len(said) > 1 and len({one[:2] for one in said}) != len(said):
            return None
        return said


def problem(path: str, number: int, reason: str, line: bytes | None) -> Problem:
    """A line of a manifest that is left out, for the report."""
    shown = (line or b"")[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN].replace("\0", "\ufffd")
    return Problem(f"{path}, line {number}", reason, shown)


def too_long() -> BadSample:
    return BadSample(f"the line is longer than {MAX_LINE // 2**20} MB")


def refuse_nul(data: Any) -> None:
    """Raises BadSample for a text with the character NUL, which PostgreSQL does not keep."""
    if isinstance(data, str):
        if "\0" in data:
            raise BadSample("a text holds the character NUL")
    elif isinstance(data, dict):
        for key, value in data.items():
            refuse_nul(key)
            refuse_nul(value)
    elif isinstance(data, list):
        for value in data:
            refuse_nul(value)


class ParserProcess:
    """A `Parser` in a process of its own, so that it neither waits for this one nor lets its requests wait.

    The process ends with the block, and by itself when this one is gone.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ParserProcess:
        begin = "from bottega_dataset.parsing import serve; serve()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = await self._stack.enter_async_context(
            await anyio.open_process([sys.executable, "-c", begin], stderr=None, env=environment)
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, BufferedByteReceiveStream(self._process.stdout)
        await self._send(self._parser)
        self._begun = asyncio.create_task(self._out.receive_exactly(len(_READY)))
        return self

    @property
    def is_ready(self) -> bool:
        """Whether it has started, which takes it some tenths of a second, and would answer at once."""
        return self._begun.done()

    async def __call__(self, block: bytes, number: int) -> Parsed:
        """What a block holds, as `Parser` says it. Raises Unavailable when the process was ended."""
        try:
            await self._begun
            await self._send((block, number))
            (length,) = _LENGTH.unpack(await self._out.receive_exactly(_LENGTH.size))
            answer = pickle.loads(await self._out.receive_exactly(length))  # noqa: S301  # our own process's
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as e:
            raise Unavailable("the process that reads the manifest was ended") from e
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Parsed)
        return answer

    async def _send(self, what: object) -> None:
        data = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
        await self._in.send(_LENGTH.pack(len(data)) + data)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._begun.cancel()
        if self._process.returncode is None:
            self._process.kill()
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()


def serve() -> None:
    """What the process does: read a parser, then blocks, and answer each until nobody asks any more."""
    source, target = sys.stdin.buffer, sys.stdout.buffer

    def receive() -> Any:
        head = source.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            sys.exit(0)
        return pickle.loads(source.read(_LENGTH.unpack(head)[0]))  # noqa: S301  # from the platform

    parser = receive()
    target.write(_READY)
    target.flush()
    while True:
        try:
            answer = parser(*receive())
        except Exception as e:
            answer = e
        data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        target.write(_LENGTH.pack(len(data)))
        target.write(data)
        target.flush()
