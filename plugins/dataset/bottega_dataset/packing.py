"""Many samples as a database takes them at once: columns instead of objects, annotations that are alike said once.

A chunk of tens of thousands of samples becomes one JSON array, which SQLite and PostgreSQL turn into rows themselves
(`bottega_dataset.loading`). What all of a chunk have in common is no column but a constant.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bottega_dataset.sample import Annotation, BadSample, SampleRecord, identity

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""How JSON writes the character that PostgreSQL does not keep."""
COLUMNS = ("source", "name", "size", "modified_at", "usage", "labeled", "hard", "extra")
"""Of a sample, beside its key, dataset, id and time."""

NAME, FOLDER = "name", "folder"
SEPARATOR, INSTEAD = "\n", "\x01"
_LOOKED_UP = 256
"""Samples that are worth rows to look them up by."""
_FOLDERS = 0xFFFF

Texts = tuple[str, bytes, bytes | None]
"""A row to look samples up by: by what, and its `texts` and `numbers` (`bottega_dataset.entities.LookupRow`)."""
Said = tuple[str, str, float | None, bool | None, str, int | None, str | None, str | None]
"""An annotation: type, name, confidence, hard, annotated by, created at, property (JSON), id."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Samples. `ids` has 16 bytes for each, `rows` (a JSON array) an entry for each: an array of its `varying` columns,
    the value itself where there is but one, or null where the sample was taken out. `constants` has the other columns.

    `said` are the different annotations. `first` (a JSON array) has the index in `said` of each sample's first
    annotation or null, `further` sample, position and index of the others. `buckets` are those the samples lie in.
    Where `tails` is not empty it has a byte for each sample: so many characters at the end of its source are its name,
    which is then no column. So is whether it is labeled, where `marks` has a byte for each (1: yes). `lookup` is what
    samples are found by later.
    """

    count: int
    ids: bytes
    varying: tuple[str, ...]
    constants: Mapping[str, Any]
    rows: bytes
    said: Sequence[Said]
    first: bytes
    further: Sequence[tuple[int, int, int]]
    buckets: frozenset[str]
    tails: bytes = b""
    marks: bytes = b""
    lookup: Sequence[Texts] = ()
    removed: frozenset[int] = frozenset()

    def ids_of(self, number: int) -> bytes:
        return self.ids[16 * number : 16 * number + 16]

    def __len__(self) -> int:
        return self.count - len(self.removed)

    def sources(self) -> Iterator[tuple[int, str]]:
        """Number and source of each sample."""
        alone = len(self.varying) == 1
        for number, row in enumerate(orjson.loads(self.rows)):
            if row is not None:
                yield number, row if alone else row[0]

    def columns(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and columns of each sample."""
        for number, row in enumerate(orjson.loads(self.rows)):
            if number not in self.removed:
                values = row if len(self.varying) != 1 else (row,)
                found = {**self.constants, **dict(zip(self.varying, values, strict=True))}
                if self.tails:
                    found["name"] = found["source"][len(found["source"]) - self.tails[number] :]
                if self.marks:
                    found["labeled"] = bool(self.marks[number])
                yield number, found

    def annotations(self) -> dict[int, list[int]]:
        """The annotations of samples, as indices in `said`, by the samples' numbers."""
        found = {n: [index] for n, index in enumerate(orjson.loads(self.first)) if index is not None}
        for number, _, index in self.further:
            found[number].append(index)
        return found

    def __iter__(self) -> Iterator[SampleRecord]:
        annotations = self.annotations()
        for number, values in self.columns():
            extra = orjson.loads(values["extra"] or b"{}")
            yield SampleRecord(
                source=values["source"],
                annotations=[unpacked(self.said[index]) for index in annotations.get(number, ())],
                usage=values["usage"],
                id=extra.get("id") or self.ids_of(number).hex(),
                inference_loc=extra.get("inference-loc"),
                property=extra.get("property"),
                file=extra.get("file"),
                name=values["name"],
                size=values["size"],
                modified_at=values["modified_at"],
            )

    def without(self, numbers: Iterable[int]) -> Packed:
        """The same without some of its samples."""
        removed = self.removed | frozenset(numbers)
        rows, first = orjson.loads(self.rows), orjson.loads(self.first)
        for number in removed:
            rows[number] = first[number] = None
        further = [one for one in self.further if one[0] not in removed]
        return Packed(
            self.count,
            self.ids,
            self.varying,
            self.constants,
            orjson.dumps(rows),
            self.said,
            orjson.dumps(first),
            further,
            self.buckets,
            self.tails,
            self.marks,
            self.lookup,
            removed,
        )


@dataclass(slots=True)
class Packer:
    """Takes samples one by one. What few samples have is kept by their numbers."""

    ids: list[bytes] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    usages: list[str | None] = field(default_factory=list)
    first: list[int | None] = field(default_factory=list)
    further: list[tuple[int, int, int]] = field(default_factory=list)
    sparse: dict[str, dict[int, Any]] = field(default_factory=dict)
    said: dict[Said, int] = field(default_factory=dict)

    def add(self, record: SampleRecord) -> None:
        """Raises BadSample for what no database keeps."""
        if "\0" in record.source:
            raise BadSample("source holds the character NUL")
        ident = identity(record)
        number = len(self.ids)
        extra = extra_of(record, ident)
        said = [packed(one) for one in record.annotations]
        if (extra and _NUL.search(extra)) or any(_has_nul(one) for one in said):
            raise BadSample("a text of it holds the character NUL")
        for column, value in (("size", record.size), ("modified_at", record.modified_at), ("extra", extra)):
            if value is not None:
                self.sparse.setdefault(column, {})[number] = value
        indices = [self.said.setdefault(one, len(self.said)) for one in said]
        if any(one.hard for one in record.annotations):
            self.sparse.setdefault("hard", {})[number] = True
        self.ids.append(ident)
        self.sources.append(record.source)
        self.names.append(record.name)
        self.usages.append(record.usage)
        self.first.append(indices[0] if indices else None)
        self.further += [(number, position, index) for position, index in enumerate(indices) if position]

    def finish(self) -> Packed:
        count = len(self.ids)
        columns: dict[str, Sequence[Any]] = {"source": self.sources, "name": self.names, "usage": self.usages}
        constants: dict[str, Any] = {"size": None, "modified_at": None, "hard": False, "extra": None}
        unlabeled = self.first.count(None)
        marks = b""
        if 0 < unlabeled < count:
            marks = bytes([index is not None for index in self.first])
        else:
            constants["labeled"] = not unlabeled
        for name, values in self.sparse.items():
            columns[name] = [values.get(number, constants[name]) for number in range(count)]
        tails = b""
        if self.names.count("") == count:
            constants["name"] = ""
            del columns["name"]
        elif all(map(str.endswith, self.sources, self.names)) and max(map(len, self.names)) < 256:
            tails = bytes(map(len, self.names))
            del columns["name"]
        if count and self.usages.count(self.usages[0]) == count:
            constants["usage"] = self.usages[0]
            del columns["usage"]
        folders = [source[: source.rfind("/") + 1] for source in self.sources]
        varying = tuple(name for name in COLUMNS if name in columns)
        rows: Any = self.sources if len(varying) == 1 else list(zip(*(columns[n] for n in varying), strict=True))
        return Packed(
            count,
            b"".join(self.ids),
            varying,
            constants,
            orjson.dumps(rows),
            list(self.said),
            orjson.dumps(self.first),
            self.further,
            frozenset(folder.split("/", 3)[2] for folder in set(folders) if folder.startswith("s3://")),
            tails,
            marks,
            (*_texts_of_names(self.names), *_texts_of_folders(folders)) if count >= _LOOKED_UP else (),
        )


def _texts_of_names(names: Sequence[str]) -> Iterator[Texts]:
    """In lower case, as far as databases go that do not tell it apart."""
    joined = SEPARATOR.join(names)
    if joined.count(SEPARATOR) != len(names) - 1:
        joined = SEPARATOR.join([name.replace(SEPARATOR, INSTEAD) for name in names])
    yield NAME, joined.encode().lower() if len(joined) >= len(names) else b"", None


def _texts_of_folders(folders: Sequence[str]) -> Iterator[Texts]:
    """None where nearly every sample has a folder of its own: such rows would be as large as the samples."""
    numbers = {folder: number for number, folder in enumerate(dict.fromkeys(folders))}
    if 2 * len(numbers) <= len(folders) and len(numbers) <= _FOLDERS:
        joined = SEPARATOR.join([folder.replace(SEPARATOR, INSTEAD) for folder in numbers])
        yield FOLDER, joined.encode(), array("H", map(numbers.__getitem__, folders)).tobytes()


def pack(records: Iterable[SampleRecord]) -> tuple[Packed, list[tuple[SampleRecord, str]]]:
    """The records that a database can keep, and the others with the reason."""
    packer = Packer()
    left: list[tuple[SampleRecord, str]] = []
    for record in records:
        try:
            packer.add(record)
        except BadSample as e:
            left.append((record, str(e)))
    return packer.finish(), left


def extra_of(record: SampleRecord, ident: bytes) -> str | None:
    """What the samples' table has no column of its own for, as JSON."""
    extra: dict[str, Any] = {}
    if record.id and record.id != ident.hex():
        extra["id"] = record.id
    if record.inference_loc:
        extra["inference-loc"] = record.inference_loc
    if record.property:
        extra["property"] = record.property
    if record.file:
        extra["file"] = record.file
    return orjson.dumps(extra).decode() if extra else None


def _has_nul(said: Said) -> bool:
    _, name, _, _, by, _, prop, ident = said
    return "\0" in by or "\0" in name or bool(prop and _NUL.search(prop)) or bool(ident and "\0" in ident)


def packed(one: Annotation) -> Said:
    prop = orjson.dumps(one.property).decode() if one.property else None
    return (one.type, one.name, one.confidence, one.hard, one.annotated_by, one.created_at, prop, one.id)


def unpacked(said: Said) -> Annotation:
    kind, name, confidence, hard, by, created, prop, ident = said
    return Annotation(kind, name, orjson.loads(prop) if prop else None, hard, by, created, confidence, ident)
