"""From the text of a manifest to packed samples, as fast as Python goes: in this process or in one beside it."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import repeat
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
_BLOCK = struct.Struct("<QQ")
"""What goes before a block: its length, and the number of its first line."""
_READY = b"\n"
_AT_ONCE, _FEW = 256, 16
"""Lines that are read at once, and so few that they are not worth to be tried again in halves."""
_FIELDS = frozenset(("source", "annotation", "usage", "id"))
_SAID_FIELDS = frozenset(("type", "name", "hard", "annotated-by", "creation-time", "confidence"))
_USAGES: dict[Any, str | None] = {None: None, "": None, **{usage: usage for usage in USAGES}}

_Numbered = tuple[int, Said]
"""What is said, and its number in the chunk."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What lines hold: samples that are wanted, how many are not, and what is wrong."""

    samples: Packed
    left_out: int
    problems: Sequence[Problem]


@dataclass(slots=True)
class Parser:
    """Reads lines for datasets of one type. `path` is what its reports call the manifest.

    Plain lines, as nearly all are, are read many at once, each step for all of them; others one by one.
    """

    kind: DatasetType
    choice: Choice
    path: str
    _packer: Packer = field(default_factory=Packer)
    _problems: list[Problem] = field(default_factory=list)
    _left_out: int = 0
    _odd: bool = False
    _said: dict[tuple[Any, ...], Said] = field(default_factory=dict)
    _written: dict[tuple[Any, ...], _Numbered] = field(default_factory=dict)
    _buckets: set[str] = field(default_factory=set)
    _probe: SampleRecord = field(default_factory=lambda: SampleRecord(""))

    def __call__(self, block: bytes, number: int) -> Parsed:
        """:param number: of the block's first line, for reports."""
        self.read(block, number)
        return self.taken()

    def taken(self) -> Parsed:
        """What was read since the last time."""
        found = Parsed(self._packer.finish(), self._left_out, self._problems)
        self._packer, self._problems, self._left_out, self._written = Packer(), [], 0, {}
        return found

    def read(self, block: bytes, number: int) -> int:
        """Read a block, of which `taken` tells. Returns how many lines it has."""
        lines = block.removesuffix(b"\n").split(b"\n")
        for at in range(0, len(lines), _AT_ONCE):
            self._read(lines[at : at + _AT_ONCE], number + at)
        return len(lines)

    def _read(self, lines: list[bytes], number: int) -> None:
        if self.choice.everything and self._take(lines):
            self._odd = False
        elif len(lines) > _FEW and self.choice.everything and not self._odd:
            # One in many is odd: not all of them pay for it. Where the next ones are as well they will be.
            half = len(lines) // 2
            self._read(lines[:half], number)
            self._read(lines[half:], number + half)
        else:
            self._odd = True
            for at, line in enumerate(lines, number):
                if line and not line.isspace():
                    self._read_one(line, at)

    def _read_one(self, line: bytes, number: int) -> None:
        try:
            if len(line) > MAX_LINE:
                raise too_long()
            try:
                data = orjson.loads(line)
            except orjson.JSONDecodeError as e:
                raise BadSample(f"not a JSON object: {e}") from e
            if b"\\u0000" in line:
                refuse_nul(data)
            record = parse_data(data)
            elsewhere = [one.loc for one in record.annotations if one.loc]
            if elsewhere:
                record = self.kind.expanded(record, dict.fromkeys(elsewhere, b""))
            wanted = self.choice.of(check(self.kind, record))
            if wanted is None:
                self._left_out += 1
            else:
                self._packer.add(wanted)
        except BadSample as e:
            self._problems.append(problem(self.path, number, str(e), line))

    def _take(self, lines: list[bytes]) -> bool:
        """Take lines that are all plain. False: one of them is not, or has a mistake; none was taken."""
        packer = self._packer
        try:
            if max(map(len, lines)) > MAX_LINE:
                return False
            found = [orjson.loads(line) for line in lines]
            shapes = {tuple(one) for one in found}
            if not all(map(_FIELDS.issuperset, shapes)):
                return False
            sources = [one["source"] for one in found]
            usages = [_USAGES[one.get("usage")] for one in found]
            names = self._names(sources)
            if names is None:
                return False
            ids = list(map(digest, sources))
            if any("id" in shape for shape in shapes):
                given = [one.get("id") for one in found]
                if any(one is not None and one != own.hex() for one, own in zip(given, ids, strict=True)):
                    return False
            if not self._take_annotations([one.get("annotation") for one in found], len(packer.ids)):
                return False
        except (BadSample, AttributeError, KeyError, TypeError, ValueError):  # the last also for what is no JSON
            return False
        packer.ids += ids
        packer.sources += sources
        packer.names += names
        packer.usages += usages
        return True

    def _names(self, sources: list[str]) -> list[str] | None:
        """The names of objects, or of texts (none); None where one is not plain. Raises BadSample, TypeError."""
        joined = " ".join(sources)
        own = type(self.kind).check_source is not DatasetType.check_source
        for self._probe.source in sources if own else sources[:1]:
            self.kind.check_source(self._probe)
        if joined.startswith(CONTENT):
            texts = [one.removeprefix(CONTENT) for one in sources]
            plain = all(map(str.startswith, sources, repeat(CONTENT))) and all(map(str.strip, texts))
            return [""] * len(sources) if plain and "\0" not in joined else None
        # Nothing that a path must not have, or that needs a closer look.
        if not joined.isprintable() or "/." in joined or "/ " in joined or joined.count("//") != len(sources):
            return None
        suffixes = () if own else self.kind.suffixes
        if suffixes and not all(map(str.endswith, [one[-8:].lower() for one in sources], repeat(suffixes))):
            return None
        folders = [one[: one.rindex("/") + 1] for one in sources]
        for folder in set(folders):
            bucket = folder[: folder.index("/", 5)]
            if bucket not in self._buckets:
                if not PLAIN.fullmatch(f"{folder}-"):
                    return None
                self._buckets.add(bucket)
        names = [one[len(folder) :] for one, folder in zip(sources, folders, strict=True)]
        return names if all(names) else None

    def _take_annotations(self, groups: list[Any], number: int) -> bool:
        """Take what is said of the samples from `number` on. False: it is not plain, and nothing was taken.

        Raises BadSample, KeyError, TypeError, and nothing was taken.
        """
        packer, written, alone = self._packer, self._written, self.kind.labels_alone
        new: dict[Said, int] = {}
        new_written: dict[tuple[Any, ...], _Numbered] = {}
        first: list[int | None] = []
        further: list[tuple[int, int, int]] = []
        hard: dict[int, Any] = {}
        for at, group in enumerate(groups, number):
            if not group:
                if group is not None and type(group) is not list:
                    return False
                first.append(None)
                continue
            if type(group) is not list or not alone:
                return False
            said = []
            for one in group:
                key = (*one, *one.values())
                known = written.get(key) or new_written.get(key)
                if known is None:
                    what = self._plain_said(one)
                    if what is None:
                        return False
                    index = packer.said.get(what)
                    if index is None:
                        index = new.setdefault(what, len(packer.said) + len(new))
                    known = index, what
                    if "confidence" not in one:  # of which 1 equals 1.0 and true
                        new_written[key] = known
                said.append(known)
            first.append(said[0][0])
            if len(said) > 1:
                if len({what[:2] for _, what in said}) != len(said):
                    return False
                further += [(at, position, index) for position, (index, _) in enumerate(said) if position]
            for _, what in said:
                if what[3]:
                    hard[at] = True
        packer.said |= new
        written |= new_written
        packer.first += first
        packer.further += further
        if hard:
            packer.sparse.setdefault("hard", {}).update(hard)
        return True

    def _plain_said(self, one: Mapping[str, Any]) -> Said | None:
        """What a plain annotation says; None when it is not plain. Raises BadSample, KeyError, TypeError as well."""
        kind, name, hard, by = one["type"], one["name"], one.get("hard"), one.get("annotated-by")
        if not one.keys() <= _SAID_FIELDS or (hard is not None and type(hard) is not str):
            return None
        known = self._said.get((kind, name, hard, by))
        if known is None:
            plain = {"type": kind, "name": name, "hard": hard, "annotated-by": by}
            record = parse_data({"source": self._probe.source, "annotation": [plain]})
            self.kind.check_annotations(record)
            known = packed(record.annotations[0])
            if "\0" in known[4]:
                return None
            self._said[kind, name, hard, by] = known
        created, confidence = one.get("creation-time"), one.get("confidence")
        if created is None and confidence is None:
            return known
        if confidence is not None and (type(confidence) is not float or not 0 <= confidence <= 1):
            return None
        at = parse_time(created) if created else None
        return (known[0], known[1], confidence, known[3], known[4], at, None, None)


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
        self._sending, self._receiving = asyncio.Lock(), asyncio.Lock()

    async def __aenter__(self) -> ParserProcess:
        begin = "from bottega_dataset.parsing import serve; serve()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = await self._stack.enter_async_context(
            await anyio.open_process([sys.executable, "-c", begin], stderr=None, env=environment)
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, BufferedByteReceiveStream(self._process.stdout)
        parser = pickle.dumps(self._parser, pickle.HIGHEST_PROTOCOL)
        await self._in.send(_LENGTH.pack(len(parser)) + parser)
        self._begun = asyncio.create_task(self._out.receive_exactly(len(_READY)))
        return self

    @property
    def is_ready(self) -> bool:
        """Whether it has started, which takes it some tenths of a second, and would answer at once."""
        return self._begun.done()

    async def __call__(self, block: bytes, number: int) -> Parsed:
        """What a block holds, as `Parser` says it; of several that are asked for at once, one after the other.

        Raises Unavailable when the process was ended.
        """
        try:
            await self._begun
            # At the same time: what is sent may wait for the process, which waits until its answer is taken.
            _, answer = await asyncio.gather(self._send(block, number), self._answer())
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as e:
            raise Unavailable("the process that reads the manifest was ended") from e
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Parsed)
        return answer

    async def _send(self, block: bytes, number: int) -> None:
        async with self._sending:
            await self._in.send(_BLOCK.pack(len(block), number))
            await self._in.send(block)

    async def _answer(self) -> object:
        async with self._receiving:
            (length,) = _LENGTH.unpack(await self._out.receive_exactly(_LENGTH.size))
            return pickle.loads(await self._out.receive_exactly(length))  # noqa: S301  # our own process's

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

    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    parser = pickle.loads(source.read(length))  # noqa: S301  # from the platform
    target.write(_READY)
    target.flush()
    while len(head := source.read(_BLOCK.size)) == _BLOCK.size:
        length, number = _BLOCK.unpack(head)
        try:
            answer = parser(source.read(length), number)
        except Exception as e:
            answer = e
        data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        target.write(_LENGTH.pack(len(data)))
        target.write(data)
        target.flush()
