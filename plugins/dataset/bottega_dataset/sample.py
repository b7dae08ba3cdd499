"""A sample and its annotations, as importers find them and manifests write them."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bottega_dataset.packing import Packed

CONTENT = "content://"
USAGES = ("TRAIN", "EVAL", "TEST", "INFERENCE")
HUMAN = "human"
FROM, TO = "@modelarts:from", "@modelarts:to"
"""Of a relation's `property`: the ids of the annotations it joins."""
SIZE = "@modelarts:size"
"""Of a sample's `property`: width, height and, where known, depth of an image."""
LABELED, UNLABELED = "__ALL__", "__NONE__"
"""The API's ``sample_state``."""
HEX_ID = re.compile(r"[0-9a-f]{32}")


class BadSample(Exception):
    """One sample, or line, is not as the rules want it; the message says why."""


@dataclass(slots=True)
class Annotation:
    """Something said about a sample (002 §2.3.2, table 2-4). `created_at` is epoch milliseconds.

    `name` is its label, empty where it bears none (a transcript). `id` is what other annotations of the sample name it
    by, where they do. `loc` is the file its content lies in (``annotation-loc``); where a dataset holds it, it is None.
    """

    type: str
    name: str = ""
    property: dict[str, Any] | None = None
    hard: bool | None = None
    annotated_by: str = HUMAN
    created_at: int | None = None
    confidence: float | None = None
    id: str | None = None
    loc: str | None = None


@dataclass(slots=True)
class SampleRecord:
    """A sample as it is read and written (002 §2.3.2, table 2-2).

    `source` is ``s3://bucket/key``, ``content://text`` or an https URL. `size` is in bytes, `modified_at` in epoch
    milliseconds; both are None where unknown. `id` is what the data itself calls the sample, if anything. `property`
    has the vendor's keys, such as ``@modelarts:size``: width, height and depth of an image. `file` is the object that a
    text was read from, where it is one of several in it.
    """

    source: str
    annotations: list[Annotation] = field(default_factory=list)
    usage: str | None = None
    id: str | None = None
    inference_loc: str | None = None
    name: str = ""
    size: int | None = None
    modified_at: int | None = None
    property: dict[str, Any] | None = None
    file: str | None = None

    @builtins.property
    def is_text(self) -> bool:
        return self.source.startswith(CONTENT)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an importer had to leave out."""

    place: str
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an importer found since the last chunk. `cursor` (JSON) makes it go on right behind this chunk.

    `progress` is the part of all there is, 0 to 1, or None where that is not known. `samples` are records, or packed
    by an importer that has very many, and has made the request's choice among them (`left_out` others).
    """

    samples: Sequence[SampleRecord] | Packed
    problems: Sequence[Problem]
    cursor: Mapping[str, Any]
    progress: float | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which samples of a source an import wants: by label, hard ones only, with or without their annotations."""

    included: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    hard_only: bool = False
    annotations: bool = True

    @property
    def everything(self) -> bool:
        return not self.included and not self.excluded and not self.hard_only and self.annotations

    def of(self, record: SampleRecord) -> SampleRecord | None:
        """The record as it is wanted, None when it is not."""
        names = {one.name for one in record.annotations}
        if (self.included and not names & self.included) or names & self.excluded:
            return None
        if self.hard_only and not any(one.hard for one in record.annotations):
            return None
        if not self.annotations:
            return replace(record, annotations=[])
        if self.included:
            kept = [one for one in record.annotations if one.name in self.included]
            # What a kept relation joins is kept with it.
            joined = {value for one in kept for key, value in (one.property or {}).items() if key in (FROM, TO)}
            kept = [one for one in record.annotations if one.name in self.included or (one.id and one.id in joined)]
            return replace(record, annotations=kept)
        return record


EVERYTHING = Choice()


def identity(record: SampleRecord) -> bytes:
    """16 bytes that say which sample this is: the object it lies in, or for a text its id, else the text itself.

    The same source imported twice, by whatever way, is therefore the same sample.
    """
    if record.id and record.is_text:
        if HEX_ID.fullmatch(record.id):
            return bytes.fromhex(record.id)
        return digest(f"id:{record.id}")
    return digest(record.source)


def line_id(path: str, line: int, text: str) -> str:
    """The id of a line of a text file, which distinguishes equal lines and changes when the line does."""
    return digest(f"{path}#{line}:{text}").hex()


def digest(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
