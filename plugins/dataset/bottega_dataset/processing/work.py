"""The samples of one task while it runs, in the worker: what processors read them with and say of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bottega_dataset.sample import CONTENT, SIZE, Annotation, SampleRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.random import Generator

T = TypeVar("T")
_WINDOW = 64
"""Samples fetched at a time, while those before them are being worked on."""
RESERVED, MODIFIED, DELETED, ADDED = 0, 1, 2, 3
"""The API's ``result_property``."""


class Unreadable(Exception):
    """A sample's content is not there, or not what it should be; the message says why."""


Fetch = Callable[[Sequence[str]], Sequence[bytes | Unreadable]]
"""Gives the content of objects, by their paths, in order."""


@dataclass(slots=True, eq=False)
class Item:
    """A sample at its present state. `origin` is the source it had, or of the sample it was made from."""

    record: SampleRecord
    origin: str
    file: Path | None = None
    outcome: int = RESERVED
    notes: list[dict[str, Any]] = field(default_factory=list)
    flagged: bool = False

    @property
    def id(self) -> str:
        return self.record.id or self.record.source

    @property
    def labels(self) -> list[str]:
        return [one.name for one in self.record.annotations if one.name]


class Work:
    """What one task works on. Every change names the reason; each is an entry in the report.

    `items` are the samples still in, in order; those added come behind. `unreadable` has the reason of each sample
    that could not be read so far.

    :param target: where new files will be in object storage, a folder; :param folder: where they are until then.
    """

    def __init__(
        self,
        records: Iterable[SampleRecord],
        *,
        fetch: Fetch,
        folder: Path,
        target: str,
        seed: int = 0,
        sample_type: int = 0,
        annotation_type: str = "",
        cache_mb: int = 2048,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._all = [Item(record, record.source) for record in records]
        self.originals = len(self._all)
        self.seed = seed
        self.sample_type = sample_type
        self.annotation_type = annotation_type
        self.unreadable: dict[Item, str] = {}
        self.findings: dict[str, Any] = {}
        self._fetch = fetch
        self._folder = folder
        self._target = target
        self._cache = folder / "cache"
        self._room = cache_mb * 2**20
        self._progress = progress
        self._operator = ""
        self._span = (0.0, 1.0)
        self._done = 0.0
        self._names: set[str] = set()

    @property
    def items(self) -> list[Item]:
        return [item for item in self._all if item.outcome != DELETED]

    @property
    def all(self) -> Sequence[Item]:
        """Every sample there was or is, the dropped ones too."""
        return self._all

    @property
    def original_items(self) -> list[Item]:
        """Those of `items` that were in the input."""
        return [item for item in self.items if item.outcome != ADDED]

    def begin(self, operator: str, number: int, count: int) -> None:
        """What follows is done by `operator`, the `number`-th of `count`."""
        self._operator, self._span, self._done = operator, (number / count, 1 / count), 0.0

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, decode: Callable[[bytes], T], items: Iterable[Item] | None = None) -> Iterator[tuple[Item, T]]:
        """The samples that can be read with what `decode` makes of their content; the others are in `unreadable`.

        `decode` raises Unreadable.
        """
        wanted = list(self.items if items is None else items)
        share, start = (1 - self._done) * 0.7, self._done
        for index, (item, content) in enumerate(self._contents(wanted), 1):
            self._at(start + share * index / len(wanted))
            try:
                if isinstance(content, Unreadable):
                    raise content
                found = decode(content)
            except Unreadable as e:
                self.unreadable[item] = str(e)
                continue
            self.unreadable.pop(item, None)
            yield item, found

    def _contents(self, items: list[Item]) -> Iterator[tuple[Item, bytes | Unreadable]]:
        windows = [items[at : at + _WINDOW] for at in range(0, len(items), _WINDOW)]
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(self._window, windows[0]) if windows else None
            for window, following in zip(windows, [*windows[1:], None], strict=True):
                assert waiting is not None
                contents = waiting.result()
                waiting = ahead.submit(self._window, following) if following else None
                yield from zip(window, contents, strict=True)

    def _window(self, items: Sequence[Item]) -> list[bytes | Unreadable]:
        found: dict[Item, bytes | Unreadable] = {}
        away = []
        for item in items:
            source, kept = item.record.source, self._cached(item)
            if item.file is not None:
                found[item] = item.file.read_bytes()
            elif source.startswith(CONTENT):
                found[item] = source.removeprefix(CONTENT).encode()
            elif kept.exists():
                found[item] = kept.read_bytes()
            else:
                away.append(item)
        for item, content in zip(away, self._fetch([item.record.source for item in away]), strict=True):
            found[item] = content
            if isinstance(content, bytes) and self._room >= len(content):
                self._room -= len(content)
                self._cache.mkdir(parents=True, exist_ok=True)
                self._cached(item).write_bytes(content)
        return [found[item] for item in items]

    def _cached(self, item: Item) -> Path:
        return self._cache / hashlib.blake2b(item.record.source.encode(), digest_size=16).hexdigest()

    def _at(self, part: float) -> None:
        self._done = part
        self._progress(self._span[0] + self._span[1] * part)

    def random(self, item: Item | None = None, copy: int = 0) -> Generator:
        """Random numbers of this operator (and sample), the same each time the task is run with the same seed."""
        from numpy.random import default_rng

        name = json.dumps([self.seed, self._operator, item.id if item else "", copy])
        return default_rng(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "big"))

    # -- saying what becomes of samples ----------------------------------------------------------------------------

    def note(self, item: Item, reason: str, **facts: Any) -> None:
        """Write something about a sample into the report; the sample stays as it is."""
        item.notes.append({"operator": self._operator, "reason": reason, **facts})

    def drop(self, item: Item, reason: str, **facts: Any) -> None:
        """Leave a sample out of the result."""
        self.note(item, reason, **facts)
        item.outcome = DELETED

    def flag(self, item: Item, reason: str, **facts: Any) -> None:
        """Keep a sample, its annotations marked as hard examples, so that a person looks at it."""
        self.note(item, reason, **facts)
        item.flagged = True
        if item.record.annotations and not all(one.hard for one in item.record.annotations):
            marked = [replace(one, hard=True) for one in item.record.annotations]
            item.record = replace(item.record, annotations=marked)
            if item.outcome == RESERVED:
                item.outcome = MODIFIED

    def change(
        self,
        item: Item,
        reason: str,
        *,
        annotations: Sequence[Annotation] | None = None,
        content: bytes | None = None,
        suffix: str = "",
        size: tuple[int, int] | None = None,
        **facts: Any,
    ) -> None:
        """Give a sample other annotations, another content, or both; a text's content is the text.

        :param size: width and height of a new picture.
        """
        self.note(item, reason, **facts)
        record = item.record
        if annotations is not None:
            record = replace(record, annotations=list(annotations))
        if content is not None:
            record, item.file = self._stored(item, record, content, suffix, size)
        item.record = record
        if item.outcome == RESERVED:
            item.outcome = MODIFIED

    def add(
        self,
        item: Item,
        reason: str,
        *,
        content: bytes,
        annotations: Sequence[Annotation],
        suffix: str = "",
        size: tuple[int, int] | None = None,
        **facts: Any,
    ) -> Item:
        """A new sample, made from `item`. `size` is the width and height of a picture."""
        record = SampleRecord("", annotations=list(annotations), usage=item.record.usage)
        record, file = self._stored(item, record, content, suffix, size)
        note = {"operator": self._operator, "reason": reason, **facts}
        made = Item(record, item.origin, file, ADDED, [note])
        self._all.append(made)
        return made

    def _stored(
        self, item: Item, record: SampleRecord, content: bytes, suffix: str, size: tuple[int, int] | None
    ) -> tuple[SampleRecord, Path | None]:
        if item.record.source.startswith(CONTENT):
            return replace(record, source=CONTENT + content.decode(), id=None), None
        prop = {name: value for name, value in (record.property or {}).items() if name != SIZE}
        if size is not None:
            prop[SIZE] = [*size, 3]
        stem, dot, extension = item.record.source.rpartition("/")[2].rpartition(".")
        stem, extension = (stem, dot + extension) if dot else (extension, "")
        mark = hashlib.blake2b(f"{item.record.source}|{self._operator}".encode(), digest_size=4).hexdigest()
        number = 1
        while (name := f"{stem[:100]}-{self._operator}-{mark}-{number}{suffix or extension}") in self._names:
            number += 1
        self._names.add(name)
        file = self._folder / "result" / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return replace(record, source=f"{self._target}data/{name}", id=None, name=name, property=prop or None), file

    # -- saying what was found ------------------------------------------------------------------------------------

    def find(self, name: str, data: Mapping[str, Any], figure: Figure | None = None) -> None:
        """Put `data` (JSON) into the task's result under `name`, and the picture of it beside the report."""
        found = dict(data)
        if figure is not None:
            file = self._folder / "report" / "figures" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(file, dpi=110, metadata={"Software": None})
            found["figure"] = f"figures/{name}.png"
        self.findings[name] = found
