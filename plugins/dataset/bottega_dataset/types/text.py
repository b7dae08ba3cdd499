"""Texts: classified, entities in them, relations between those (002 §2.1; REST types 100, 101, 102)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType, Importer
from bottega_dataset.sample import CONTENT, FROM, TO, BadSample, SampleRecord
from bottega_dataset.types.classification import Classification

START, END = "@modelarts:start_index", "@modelarts:end_index"
FROM_TYPE, TO_TYPE = "@modelarts:from_type", "@modelarts:to_type"
ENTITY, TRIPLET = "text_entity", "text_triplet"
TEXT_SUFFIXES = (".txt", ".csv")


class SpanProperty(BaseModel):
    """Where in the text it is (002 table 2-5): from the character `start_index`, counted from 0, up to `end_index`,
    which is not part of it."""

    model_config = ConfigDict(extra="allow")
    start_index: StrictInt = Field(alias=START, ge=0)
    end_index: StrictInt = Field(alias=END, ge=1)


class RelationProperty(BaseModel):
    """The ids of the two entities it joins."""

    model_config = ConfigDict(extra="allow")
    from_: Annotated[str, Field(alias=FROM, min_length=1)]
    to: Annotated[str, Field(alias=TO, min_length=1)]


class TextClassification(Classification):
    code = 100
    name = "text_classification"
    sample_type = 1
    tags = ("Text", "Text classification")
    suffixes = TEXT_SUFFIXES
    texts = True
    annotations = (AnnotationKind("text_classification", 100),)
    folder_labels = True
    layout = (
        "a.txt holds a text a line; line n of a_result.txt holds the labels of line n, separated by spaces or commas. "
        'With label_type "1" the labels stand behind a tab in the line of the text.'
    )


class NamedEntities(DatasetType):
    """Parts of a text, each with a label."""

    code = 101
    name = "named_entity"
    sample_type = 1
    tags = ("Text", "Named entity recognition")
    suffixes = TEXT_SUFFIXES
    texts = True
    annotations = (AnnotationKind(ENTITY, 101, schema=SpanProperty),)
    layout = "Each line of a .txt file is a text, without labels."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        check_spans(record)

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Characters of the text, and entities in it."""
        return {**_length(record), "entities": len(record.annotations)}


class TextTriplets(DatasetType):
    """Entities in a text, and relations between them: subject, relation, object."""

    code = 102
    name = "text_triplet"
    sample_type = 1
    tags = ("Text", "Text triplet")
    suffixes = TEXT_SUFFIXES
    texts = True
    annotations = (
        AnnotationKind(TRIPLET, 102, schema=RelationProperty),
        AnnotationKind(ENTITY, 103, schema=SpanProperty),
    )
    layout = NamedEntities.layout

    def check_label(self, annotation_type: str, properties: Mapping[str, Any]) -> None:
        super().check_label(annotation_type, properties)
        for key in (FROM_TYPE, TO_TYPE) if annotation_type == TRIPLET else ():
            if not properties.get(key):
                raise BadSample(f"a relation needs {key}, the label of the entities it joins")

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        check_spans(record)
        known: set[str] = set()
        for index, one in enumerate(record.annotations):
            if one.type == ENTITY and one.id is not None:
                if one.id in known:
                    raise BadSample(f"annotation[{index}].id '{one.id}' is that of another entity")
                known.add(one.id)
        for index, one in enumerate(record.annotations):
            if one.type == TRIPLET:
                for end in (FROM, TO):
                    named = (one.property or {})[end]
                    if named not in known:
                        raise BadSample(
                            f"annotation[{index}].property['{end}'] is '{named}'; the sample has no entity of that id"
                        )

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Characters of the text, entities in it, and relations between them."""
        relations = sum(one.type == TRIPLET for one in record.annotations)
        return {**_length(record), "entities": len(record.annotations) - relations, "relations": relations}

    def label_properties(self, record: SampleRecord) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        entities = {one.id: one.name for one in record.annotations if one.type == ENTITY}
        for one in record.annotations:
            if one.type == TRIPLET:
                ends = one.property or {}
                yield TRIPLET, one.name, {FROM_TYPE: entities.get(ends[FROM]), TO_TYPE: entities.get(ends[TO])}

    def check_labels(self, record: SampleRecord, properties: Mapping[tuple[int, str], Mapping[str, Any]]) -> None:
        entities = {one.id: one.name for one in record.annotations if one.type == ENTITY}
        for index, one in enumerate(record.annotations):
            wanted = properties.get((self.code, one.name), {}) if one.type == TRIPLET else {}
            for end, key in ((FROM, FROM_TYPE), (TO, TO_TYPE)):
                name = entities.get((one.property or {}).get(end, ""))
                if wanted.get(key) and name != wanted[key]:
                    where = f"annotation[{index}].property['{end}']"
                    raise BadSample(f"{where} is a '{name}'; '{one.name}' takes a '{wanted[key]}' there")


def check_spans(record: SampleRecord) -> None:
    """Raises BadSample when an entity ends before it starts, or behind the text, or is there twice."""
    length = len(record.source) - len(CONTENT) if record.source.startswith(CONTENT) else None
    seen: set[tuple[Any, ...]] = set()
    for index, one in enumerate(record.annotations):
        if one.type != ENTITY:
            continue
        where, given = f"annotation[{index}].property", one.property or {}
        start, end = given[START], given[END]
        if end <= start:
            raise BadSample(f"{where}['{END}'] is {end}; it must lie behind {START}, which is {start}")
        if length is not None and end > length:
            raise BadSample(f"{where}['{END}'] is {end}; the text has {length} characters")
        if (one.name, start, end) in seen:
            raise BadSample(f"annotation[{index}] says '{one.name}' of the characters {start} to {end} a second time")
        seen.add((one.name, start, end))


def _length(record: SampleRecord) -> dict[str, float]:
    """How long the text is, where it is not an object of its own."""
    return {"characters": len(record.source) - len(CONTENT)} if record.is_text else {}


@hookimpl
def bottega_dataset_importers() -> list[Importer]:
    from bottega_dataset.import_folder import TextFolderImporter

    return [TextFolderImporter()]


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [TextClassification(), NamedEntities(), TextTriplets()]
