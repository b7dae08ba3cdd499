"""Tables: a sample is a row (REST type 400)."""

from __future__ import annotations

import orjson

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType, Importer
from bottega_dataset.sample import CONTENT, BadSample, SampleRecord
from bottega_dataset.types.classification import Classification


class Table(Classification):
    """A row is carried in the source, as a JSON object of its cells by their columns; labels are on the row."""

    code = 400
    name = "table"
    sample_type = 4
    tags = ("Table",)
    suffixes = (".csv",)
    texts = True
    annotations = (AnnotationKind("table", 400),)
    layout = "Every line of a .csv file is a row; the first one may have the columns' names (with_column_header)."

    def check_source(self, record: SampleRecord) -> None:
        if not record.is_text:
            raise BadSample("source must be content://{…}, a row as a JSON object; import a .csv with import_type dir")
        try:
            row = orjson.loads(record.source[len(CONTENT) :])
        except orjson.JSONDecodeError as e:
            raise BadSample(f"source must be content://{{…}}, a row as a JSON object: {e}") from e
        if not isinstance(row, dict) or any(isinstance(cell, dict | list) for cell in row.values()):
            raise BadSample("source must be content://{…}: a JSON object with a text or number for each column")


@hookimpl
def bottega_dataset_importers() -> list[Importer]:
    from bottega_dataset.import_rows import RowFolderImporter

    return [RowFolderImporter()]


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [Table()]
