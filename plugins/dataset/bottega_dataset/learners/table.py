"""Learner of tables: numbers as they are, texts as categories, what is missing as a category or the middle value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import Classification
from bottega_dataset.sample import BadSample, SampleRecord

if TYPE_CHECKING:
    from bottega_dataset.learner import Learner

Row = Mapping[str, Any]
_MOST_CATEGORIES = 50


class TableLearner(Classification):
    id = "learner-table"
    dataset_types = frozenset({400})

    def open(self, record: SampleRecord, data: bytes) -> Row:
        import orjson

        try:
            row = orjson.loads(data)
        except orjson.JSONDecodeError as e:
            raise BadSample(f"{record.source[:80]} is not a row: {e}") from e
        if not isinstance(row, dict) or not row:
            raise BadSample(f"{record.source[:80]} is not a row: it must be a JSON object with cells")
        return row

    def features(self, opened: Sequence[Row], backbone: str | None) -> Any:
        import numpy as np

        columns = []
        for name in sorted({name for row in opened for name in row}):
            cells = [row.get(name) for row in opened]
            numbers = [_number(cell) for cell in cells]
            if all(n is not None or _empty(c) for n, c in zip(numbers, cells, strict=True)):
                values = np.array([np.nan if n is None else n for n in numbers])
                known = ~np.isnan(values)
                if known.any():
                    columns.append(np.where(known, values, np.median(values[known])))
                if not known.all():
                    columns.append(known.astype(float))
                continue
            texts = np.array(["" if _empty(cell) else str(cell) for cell in cells])
            found, counts = np.unique(texts, return_counts=True)
            columns += [(texts == text).astype(float) for text in found[np.argsort(-counts)][:_MOST_CATEGORIES]]
        return np.stack(columns, axis=1) if columns else np.zeros((len(opened), 1))


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e300 else None


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [TableLearner()]
