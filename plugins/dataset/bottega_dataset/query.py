"""Finding samples: the filters of the API as conditions on the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.errors import Invalid
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Sample
from bottega_dataset.sample import HUMAN, LABELED, UNLABELED

_DAYS = {"day": 1, "week": 7, "month": 30}
_KNOWN = ("hard", "label_list", "labeler", "sample_dir", "sample_name", "sample_time", "score")


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """All that is given must hold. `labels` are names; with `all_labels` a sample must bear every one of them.

    `low` and `high` bound an annotation's confidence, one without counts as 1 (a person's). `since` is epoch ms.
    """

    state: str | None = None
    labels: tuple[str, ...] = ()
    all_labels: bool = False
    name: str | None = None
    folder: str | None = None
    low: float | None = None
    high: float | None = None
    hard: bool | None = None
    annotator: str | None = None
    usage: str | None = None
    since: int | None = None
    ids: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in (None, "", LABELED, UNLABELED):
            raise Invalid(
                f"sample_state '{self.state}': a dataset has {LABELED} (labeled) and {UNLABELED} (unlabeled) samples"
            )


def from_search(text: str | None, base: SampleFilter) -> SampleFilter:
    """`base`, narrowed by the API's ``search_conditions``: JSON of one condition or a list, which must all hold."""
    if not text:
        return base
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        raise Invalid(f"search_conditions is not JSON: {e}") from e
    for condition in given if isinstance(given, list) else [given]:
        base = narrowed(base, condition)
    return base


def narrowed(base: SampleFilter, condition: Any) -> SampleFilter:
    """`base` with one ``SearchCondition`` of the API added."""
    if not isinstance(condition, Mapping):
        raise Invalid("a search condition must be an object")
    strange = [key for key, value in condition.items() if key not in _KNOWN and value is not None]
    if strange:
        raise Invalid(f"search condition '{strange[0]}' is not one of {', '.join(_KNOWN)}")
    changes: dict[str, Any] = {}
    wanted = condition.get("label_list")
    if wanted:
        try:
            changes["labels"] = tuple(str(one["name"]) for one in wanted["labels"])
        except (KeyError, TypeError) as e:
            raise Invalid('label_list must look like {"labels": [{"name": "cat"}], "op": "OR"}') from e
        changes["all_labels"] = str(wanted.get("op", "OR")).upper() == "AND"
    if condition.get("sample_name"):
        changes["name"] = str(condition["sample_name"])
    if condition.get("sample_dir"):
        changes["folder"] = str(condition["sample_dir"])
    if condition.get("hard") is not None:
        changes["hard"] = str(condition["hard"]).lower() in ("1", "true")
    if condition.get("labeler"):
        changes["annotator"] = str(condition["labeler"])
    if condition.get("score"):
        changes["low"], changes["high"] = _span(str(condition["score"]))
    if condition.get("sample_time"):
        changes["since"] = _since(str(condition["sample_time"]))
    return replace(base, **changes)


def conditions(dataset: Dataset, wanted: SampleFilter) -> list[ColumnElement[bool]]:
    """What a sample of `dataset` must fulfil."""
    found: list[ColumnElement[bool]] = [col(Sample.dataset_key) == dataset.key]
    if wanted.state:
        found.append(col(Sample.labeled) == (wanted.state == LABELED))
    if wanted.name:
        found.append(col(Sample.name).contains(wanted.name, autoescape=True))
    if wanted.folder:
        folder = wanted.folder if wanted.folder.endswith("/") else wanted.folder + "/"
        folder = f"s3:/{folder}" if folder.startswith("/") else folder
        deeper = col(Sample.source).like(_escaped(folder) + "%/%", escape="\\")
        found += [col(Sample.source).startswith(folder, autoescape=True), ~deeper]
    if wanted.hard is not None:
        found.append(col(Sample.hard) == wanted.hard)
    if wanted.usage:
        found.append(col(Sample.usage) == wanted.usage)
    if wanted.since is not None:
        found.append(col(Sample.added_at) >= wanted.since)
    if wanted.ids:
        found.append(col(Sample.sample_id).in_(wanted.ids))
    found += _of_annotations(dataset, wanted)
    return found


def _of_annotations(dataset: Dataset, wanted: SampleFilter) -> list[ColumnElement[bool]]:
    quality: list[ColumnElement[bool]] = []
    if wanted.low is not None and wanted.low > 0:
        quality.append(or_(col(AnnotationRow.confidence) >= wanted.low, col(AnnotationRow.confidence).is_(None)))
    if wanted.high is not None and wanted.high < 1:
        quality.append(col(AnnotationRow.confidence) <= wanted.high)
    if wanted.annotator:
        quality.append(col(AnnotationRow.annotated_by).in_([wanted.annotator, f"{HUMAN}/{wanted.annotator}"]))
    groups = [(name,) for name in wanted.labels] if wanted.all_labels else [wanted.labels] if wanted.labels else []
    found: list[ColumnElement[bool]] = []
    for names in groups or ([()] if quality else []):
        chosen = list(quality)
        if names:
            keys = select(Label.key).where(Label.dataset_key == dataset.key, col(Label.name).in_(names))
            chosen.append(col(AnnotationRow.label_key).in_(keys))
        found.append(col(Sample.key).in_(select(AnnotationRow.sample_key).where(and_(*chosen))))
    return found


def _span(text: str) -> tuple[float, float]:
    try:
        low, _, high = text.partition(",")
        return float(low), float(high or 1)
    except ValueError as e:
        raise Invalid(f"score '{text}' must be two numbers from 0 to 1, such as 0.2,0.9") from e


def _since(text: str) -> int:
    if text in _DAYS:
        return now_ms() - _DAYS[text] * 86_400_000
    raise Invalid(f"sample_time '{text}' is none of {', '.join(_DAYS)}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
