"""What a workload found, taken into the database: suggestions, or groups, in place of those of earlier tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import delete, insert
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset import labeling
from bottega_dataset.entities import Dataset, GroupMember, Sample, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling import Author, Edit
from bottega_dataset.learning.files import GROUPS, PROBLEMS, REPORT, SUGGESTIONS
from bottega_dataset.query import span

__all__ = ["GROUPS", "PROBLEMS", "REPORT", "SUGGESTIONS"]
HARD, COEFFICIENT, REASONS = "@modelarts:hard", "@modelarts:hard_coefficient", "@modelarts:hard_reasons"
_SUGGESTIONS: Any = Suggestion.__table__  # type: ignore[attr-defined]  # bulk rows go past the ORM
_MEMBERS: Any = GroupMember.__table__  # type: ignore[attr-defined]
_AT_ONCE = 1000


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    with file.open("rb") as found:
        for line in found:
            yield orjson.loads(line)


async def keep_suggestions(
    session: AsyncSession, dataset: Dataset, task_id: str, found: Iterable[Mapping[str, Any]]
) -> dict[str, int]:
    """Keep what was suggested for samples that are unlabeled still. Returns how many samples, and hard ones among."""
    await session.exec(delete(Suggestion).where(col(Suggestion.sample_key).between(*span(dataset))))
    counts = {"suggested": 0, "hard": 0}
    for some in _slices(found):
        keys = await _keys(session, dataset, [one["id"] for one in some], only_unlabeled=True)
        rows = []
        for one in some:
            key = keys.get(one["id"])
            if key is None:
                continue
            counts["suggested"] += 1
            counts["hard"] += bool(one["hard"])
            shared = {"sample_key": key, "task_id": task_id, "hard": bool(one["hard"]), "rank": one["rank"]}
            for position, label in enumerate(one["labels"] or [{"name": "", "confidence": 0.0}]):
                rows.append(
                    {
                        **shared,
                        "position": position,
                        "name": label["name"],
                        "type": label.get("type"),
                        "confidence": label["confidence"],
                        "property": (label.get("property") or {}) | _hardness(one),
                        "annotation_id": label.get("id"),
                    }
                )
        if rows:
            await session.exec(insert(_SUGGESTIONS), params=rows)
    return counts


@dataclass(frozen=True, slots=True)
class SaidOfSamples:
    """That samples are to say in which group they are: in the property `name`, by `author`, in their history too."""

    name: str
    kind: DatasetType
    author: Author


async def keep_groups(
    session: AsyncSession,
    dataset: Dataset,
    task_id: str,
    found: Iterable[Mapping[str, Any]],
    said: SaidOfSamples | None = None,
) -> dict[str, int]:
    """Keep in which group each sample is. Returns how many samples and groups."""
    await session.exec(delete(GroupMember).where(col(GroupMember.sample_key).between(*span(dataset))))
    grouped, numbers = 0, set()
    for some in _slices(found):
        keys = await _keys(session, dataset, [one["id"] for one in some])
        rows = [
            {"sample_key": keys[o["id"]], "task_id": task_id, "number": o["group"], "distance": o["distance"]}
            for o in some
            if o["id"] in keys
        ]
        grouped += len(rows)
        numbers |= {row["number"] for row in rows}
        if rows:
            await session.exec(insert(_MEMBERS), params=rows)
        if said:
            for number in {row["number"] for row in rows}:
                members = [row["sample_key"] for row in rows if row["number"] == number]
                edit = Edit(property={said.name: str(number)})
                await labeling.edit(session, dataset, said.kind, members, edit, said.author)
    return {"grouped": grouped, "groups": len(numbers)}


def _hardness(one: Mapping[str, Any]) -> dict[str, str]:
    """The label properties of the vendor's hard examples."""
    found = {HARD: "true" if one["hard"] else "false", COEFFICIENT: str(one["coefficient"])}
    return found | ({REASONS: "-".join(map(str, one["hard"]))} if one["hard"] else {})


async def _keys(
    session: AsyncSession, dataset: Dataset, ids: Sequence[str], *, only_unlabeled: bool = False
) -> dict[str, int]:
    query = select(Sample.sample_id, Sample.key).where(
        Sample.dataset_key == dataset.key, col(Sample.sample_id).in_([bytes.fromhex(i) for i in ids])
    )
    if only_unlabeled:
        query = query.where(col(Sample.labeled).is_(False))
    return {bytes(ident).hex(): key for ident, key in (await session.exec(query)).all()}


def _slices(found: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(found)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
