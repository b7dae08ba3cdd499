"""Labeling by hand: what people say of samples, one or many at a time, without losing what others said meanwhile.

Writers of one dataset take turns (`samples.lock`), and a sample counts the changes of its annotations (`revision`):
who says which revision they have seen changes nothing when it is another one by now. What a sample was before each
change is kept, and `bottega_dataset.history` takes changes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, delete, insert, update
from sqlalchemy import select as select_rows
from sqlmodel import col

from bottega.database import AsyncSession
from bottega.errors import ApiError, Conflict, Invalid, NotFound
from bottega_dataset import counting, labels, samples
from bottega_dataset.entities import AnnotationRow, Dataset, DatasetChange, Revision, Sample, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.manifest import write_annotation
from bottega_dataset.sample import HUMAN, Annotation, BadSample, SampleRecord

MOST = 100_000
"""Samples one call may change: they change together or not at all, and others wait meanwhile."""
_SAMPLES: Any = Sample.__table__  # type: ignore[attr-defined]  # bulk rows go past the ORM
_ANNOTATIONS: Any = AnnotationRow.__table__  # type: ignore[attr-defined]
_HISTORY: Any = Revision.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class State:
    """What is said of a sample at one moment. `property` is the sample's own (the API's ``metadata``)."""

    key: int
    sample_id: bytes
    source: str
    revision: int
    usage: str | None
    hard: bool
    property: Mapping[str, Any]
    annotations: Sequence[Annotation]


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be said of one sample; what is None stays as it is. An empty `usage` removes it.

    `revision` is the one its author has seen, if they say so. `property` replaces single keys; None removes one.
    """

    sample_id: bytes
    annotations: Sequence[Annotation] | None = None
    usage: str | None = None
    hard: bool | None = None
    property: Mapping[str, Any] | None = None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and by what (`Revision.cause`)."""

    name: str
    cause: str = "label"


@dataclass(slots=True)
class Outcome:
    """What became of a call: samples changed, what failed by sample id, and labels that had to be made.

    `change_id` names the change in the history; None when nothing changed. `restored` of the changed samples had been
    deleted. `renamed` are labels with their new names: their samples changed by that and by nothing else.
    """

    change_id: str | None = None
    changed: int = 0
    unchanged: int = 0
    failures: dict[bytes, ApiError] = field(default_factory=dict)
    new_labels: Sequence[str] = ()
    restored: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)


class Stale(Conflict):
    """Samples were changed since whoever changes them now has seen them. `states` is what they are by now."""

    def __init__(self, states: Sequence[State], seen: Mapping[bytes, int]) -> None:
        first = states[0]
        others = f" (and {len(states) - 1} more)" if len(states) > 1 else ""
        super().__init__(
            f"sample {first.sample_id.hex()}{others} was changed meanwhile: you have seen revision "
            f"{seen[first.sample_id]}, it is at {first.revision}; nothing was changed"
        )
        self.states = states


async def states(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes], kind: str) -> dict[bytes, State]:
    """Samples as they are, by id; those that do not exist are left out."""
    row = _SAMPLES.c
    found: list[Any] = []
    connection = await session.connection()
    for some in samples.slices(ids):
        query = select_rows(
            row.key, row.sample_id, row.source, row.revision, row.usage, row.hard, row.extra, row.labeled
        ).where(row.dataset_key == dataset.key, row.sample_id.in_(some))
        found += (await connection.execute(query)).all()
    return await _filled(session, found, kind)


async def states_by_key(session: AsyncSession, keys: Sequence[int], kind: str) -> dict[bytes, State]:
    row = _SAMPLES.c
    found: list[Any] = []
    connection = await session.connection()
    for some in samples.slices(keys):
        query = select_rows(
            row.key, row.sample_id, row.source, row.revision, row.usage, row.hard, row.extra, row.labeled
        )
        found += (await connection.execute(query.where(row.key.in_(some)))).all()
    return await _filled(session, found, kind)


async def _filled(session: AsyncSession, rows: Sequence[Any], kind: str) -> dict[bytes, State]:
    annotations: dict[int, list[Annotation]] = {}
    for some in samples.slices([row.key for row in rows if row.labeled]):
        annotations |= await samples.annotations_of(session, some, kind)
    return {
        bytes(row.sample_id): State(
            row.key,
            bytes(row.sample_id),
            row.source,
            row.revision,
            row.usage,
            bool(row.hard),
            (row.extra or {}).get("property") or {},
            annotations.get(row.key, []),
        )
        for row in rows
    }


async def change(
    session: AsyncSession,
    dataset: Dataset,
    kind: DatasetType,
    changes: Sequence[Change],
    author: Author,
    *,
    partial: bool = False,
) -> Outcome:
    """Apply changes; samples that do not exist fail alone.

    :param partial: samples that were changed meanwhile fail alone, too. Else the whole raises Stale.

    Raises Invalid when a sample is named twice.
    """
    by_id = {one.sample_id: one for one in changes}
    if len(by_id) != len(changes):
        raise Invalid("the same sample is named twice in one request")
    await samples.lock(session, dataset)
    now = await states(session, dataset, list(by_id), kind.annotation_type)
    outcome = Outcome()
    seen = {ident: one.revision for ident, one in by_id.items() if one.revision is not None}
    stale = [state for ident, state in now.items() if seen.get(ident, state.revision) != state.revision]
    if stale and not partial:
        raise Stale(stale, seen)
    for state in stale:
        outcome.failures[state.sample_id] = Stale([state], seen)
    for ident in by_id.keys() - now.keys():
        outcome.failures[ident] = NotFound(f"the dataset has no sample '{ident.hex()}'")
    wanted = [(state, by_id[ident]) for ident, state in now.items() if ident not in outcome.failures]
    await _check(session, dataset, kind, wanted)
    return await apply(session, dataset, kind, wanted, author, outcome)


@dataclass(frozen=True, slots=True)
class Edit:
    """The same change for many samples: labels taken off by name, put on, or (`set`) in place of all there are."""

    add: Sequence[Annotation] = ()
    remove: Sequence[str] = ()
    set: Sequence[Annotation] | None = None
    usage: str | None = None
    hard: bool | None = None
    property: Mapping[str, Any] | None = None

    def of(self, state: State) -> Change:
        """What it makes of one sample: a label it bears already is not put on again."""
        kept = list(self.set) if self.set is not None else list(state.annotations)
        kept = [one for one in kept if one.name not in self.remove]
        there = {_same(one) for one in kept}
        kept += [one for one in self.add if _same(one) not in there]
        return Change(state.sample_id, kept, self.usage, self.hard, self.property)


async def edit(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, keys: Sequence[int], wanted: Edit, author: Author
) -> Outcome:
    """Do the same to many samples. Raises Invalid, naming the sample, when one would break its type's rules."""
    await samples.lock(session, dataset)
    now = await states_by_key(session, keys, kind.annotation_type)
    pairs = [(state, wanted.of(state)) for state in now.values()]
    await _check(session, dataset, kind, pairs)
    return await apply(session, dataset, kind, pairs, author, Outcome())


async def _check(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, pairs: Sequence[tuple[State, Change]]
) -> None:
    """Raises Invalid, naming sample, annotation and rule, for what cannot be said of a sample."""
    known = await labels.of_dataset(session, dataset)
    properties = {(label.type, label.name): label.property for label in known}
    offered = {
        (label.type, label.name): {a["name"]: [v["value"] for v in a["values"]] for a in selects}
        for label in known
        if (selects := [a for a in label.attributes if a["type"] == "select"])
    }
    for state, one in pairs:
        if not one.annotations:
            continue
        record = SampleRecord(state.source, list(one.annotations), property=dict(state.property))
        try:
            kind.check_annotations(record)
            kind.check_labels(record, properties)
            if offered:
                _check_attributes(kind, one.annotations, offered)
        except BadSample as e:
            raise Invalid(f"sample {state.sample_id.hex()}: {e}; nothing was changed") from e


def _check_attributes(
    kind: DatasetType, annotations: Sequence[Annotation], offered: Mapping[tuple[int, str], Mapping[str, Sequence[str]]]
) -> None:
    """Raises BadSample for a value that a label's attribute does not offer."""
    for index, one in enumerate(annotations):
        for name, values in offered.get((kind.label_type(one.type), one.name), {}).items():
            given = (one.property or {}).get(name)
            if given not in (None, "", *values):
                raise BadSample(f"annotation[{index}].property['{name}'] is '{given}'; there are {', '.join(values)}")


async def apply(
    session: AsyncSession,
    dataset: Dataset,
    kind: DatasetType,
    pairs: Sequence[tuple[State, Change]],
    author: Author,
    outcome: Outcome,
    *,
    undoes: Mapping[int, int] | None = None,
    fact: DatasetChange | None = None,
) -> Outcome:
    """Write changes, what was before, and the fact itself.

    :param undoes: of an undo: the revision taken back, by sample key; :param fact: the one these are part of.
    """
    after = [(state, _settled(state, one)) for state, one in pairs if differs(state, one)]
    outcome.changed, outcome.unchanged = len(after), len(pairs) - len(after)
    if not after:
        return outcome
    assert dataset.key is not None
    said = ((a.type, a.name) for _, new in after for a in new.annotations)
    label_keys, outcome.new_labels = await labels.ensure(session, dataset, kind, said)
    fact = fact or DatasetChange(dataset_key=dataset.key, actor=author.name, cause=author.cause, count=0)
    fact.count += len(after)
    session.add(fact)
    await session.flush()
    outcome.change_id = fact.id
    connection = await session.connection()
    history = [_revision(state, new, fact, undoes.get(state.key) if undoes else None) for state, new in after]
    await connection.execute(insert(_HISTORY), history)
    relabeled = [(state, new) for state, new in after if list(new.annotations) != list(state.annotations)]
    for keys in samples.slices([state.key for state, _ in relabeled if state.annotations]):
        await connection.execute(delete(_ANNOTATIONS).where(_ANNOTATIONS.c.sample_key.in_(keys)))
    rows = [
        _row(kind, state.key, position, one, label_keys[one.type, one.name])
        for state, new in relabeled
        for position, one in enumerate(new.annotations)
    ]
    if rows:
        await connection.execute(insert(_ANNOTATIONS), rows)
    await _update(session, after)
    labeled = sum(bool(new.annotations) - bool(state.annotations) for state, new in after)
    await counting.note(session, dataset, 0, labeled)
    if relabeled:
        for keys in samples.slices([state.key for state, _ in relabeled]):
            await connection.execute(delete(Suggestion).where(col(Suggestion.sample_key).in_(keys)))
    return outcome


async def _update(session: AsyncSession, after: Sequence[tuple[State, _New]]) -> None:
    """Bring the samples' own rows up to date: in bulk what many have in common, one by one what is each one's own."""
    connection = await session.connection()
    # Only what changes: a column that is set to what it is already still costs its index.
    grouped: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    single: list[dict[str, Any]] = []
    for state, new in after:
        if dict(new.property) != dict(state.property):
            single.append({"k": state.key, "property": dict(new.property)})
        values: list[tuple[str, Any]] = []
        if bool(new.annotations) != bool(state.annotations):
            values.append(("labeled", bool(new.annotations)))
        if new.hard != state.hard:
            values.append(("hard", new.hard))
        if new.usage != state.usage:
            values.append(("usage", new.usage))
        grouped.setdefault(tuple(values), []).append(state.key)
    row = _SAMPLES.c
    for group, group_keys in grouped.items():
        for keys in samples.slices(group_keys):
            query = update(_SAMPLES).where(row.key.in_(keys))
            await connection.execute(query.values(**dict(group), revision=row.revision + 1))
    if single:
        extras: dict[int, Any] = {}
        for keys in samples.slices([one["k"] for one in single]):
            found = await connection.execute(select_rows(row.key, row.extra).where(row.key.in_(keys)))
            extras |= {key: extra or {} for key, extra in found.all()}
        for one in single:
            kept = {k: v for k, v in extras[one["k"]].items() if k != "property"}
            one["extra"] = (kept | ({"property": one.pop("property")} if one.get("property") else {})) or None
            one.pop("property", None)
        query = update(_SAMPLES).where(row.key == bindparam("k")).values(extra=bindparam("extra"))
        await connection.execute(query, single)


@dataclass(frozen=True, slots=True)
class _New:
    """What a sample becomes."""

    annotations: Sequence[Annotation]
    usage: str | None
    hard: bool
    property: Mapping[str, Any]


def _row(kind: DatasetType, sample_key: int, position: int, one: Annotation, label_key: int) -> dict[str, Any]:
    return {
        "sample_key": sample_key,
        "position": position,
        "label_key": label_key,
        "confidence": one.confidence,
        "hard": one.hard,
        "annotated_by": one.annotated_by,
        "created_at": one.created_at,
        "property": one.property,
        "type": None if one.type == kind.annotation_type else one.type,
        "id": one.id,
    }


def differs(state: State, one: Change) -> bool:
    """Whether a change makes another sample of it."""
    return _settled(state, one) != _of(state)


def _of(state: State) -> _New:
    return _New(list(state.annotations), state.usage, state.hard, dict(state.property))


def _settled(state: State, one: Change) -> _New:
    """A change worked out on what is there. Of an annotation that stays, so does who made it, and when."""
    annotations, hard = list(state.annotations), state.hard
    if one.annotations is not None:
        there: dict[Any, list[Annotation]] = {}
        for old in state.annotations:
            there.setdefault(_same(old), []).append(old)
        annotations = [_kept(new, there) for new in one.annotations]
        hard = any(a.hard for a in annotations)
    if one.hard is not None:
        hard = one.hard
    merged = {k: v for k, v in {**state.property, **(one.property or {})}.items() if v is not None}
    return _New(annotations, state.usage if one.usage is None else one.usage or None, hard, merged)


def _kept(new: Annotation, there: Mapping[Any, list[Annotation]]) -> Annotation:
    same = there.get(_same(new))
    if not same:
        return new
    old = same[0]
    # A person who repeats what a machine said confirms it: that is theirs then.
    is_theirs = old.annotated_by.partition("/")[0] == HUMAN and new.annotated_by.partition("/")[0] == HUMAN
    if old.hard != new.hard or old.confidence != new.confidence or not is_theirs:
        return new
    return same.pop(0) if len(same) > 1 else old


def _same(one: Annotation) -> tuple[str, str, str | None, str]:
    return one.type, one.name, one.id, repr(sorted((one.property or {}).items()))


def _revision(state: State, new: _New, fact: DatasetChange, undoes: int | None) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if new.usage != state.usage:
        own["usage"] = state.usage
    if new.hard != state.hard:
        own["hard"] = state.hard
    if dict(new.property) != dict(state.property):
        own["property"] = dict(state.property)
    return {
        "sample_key": state.key,
        "revision": state.revision + 1,
        "at": fact.at,
        "actor": fact.actor,
        "cause": fact.cause,
        "before": [write_annotation(one) for one in state.annotations],
        "change_id": fact.id,
        "undoes": undoes,
        "sample": own or None,
    }
