"""What requests say of samples, read into annotations."""

from __future__ import annotations

from dataclasses import replace

from bottega.errors import Invalid
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling_routes import annotation_of, hardness, properties
from bottega_dataset.sample import HUMAN, BadSample
from bottega_dataset.sample_routes import sample_id_of
from bottega_dataset.team.items import Labeling
from bottega_dataset.team.requests import TeamSampleLabels


def labeling(one: TeamSampleLabels, kind: DatasetType, who: str, worker_key: int | None) -> Labeling:
    """Raises Invalid, naming the sample, for labels of a type the dataset does not have."""
    try:
        annotations = [annotation_of(label, kind, who) for label in one.labels or ()]
    except BadSample as e:
        raise Invalid(f"sample {one.sample_id}: {e}") from e
    # Whatever the request says: it is the work of who sends it.
    own = [replace(said, annotated_by=f"{HUMAN}/{who}") for said in annotations]
    said = {
        "usage": one.sample_usage,
        "hard": hardness(one.metadata),
        "property": properties(one.metadata) or None,
    }
    given = {name: value for name, value in said.items() if value is not None}
    return Labeling(sample_id_of(one.sample_id), own, worker_key, one.revision, given)


def annotation_type(kind: DatasetType, label_type: int) -> str:
    """Raises Invalid for a label type the dataset does not have."""
    try:
        return kind.annotation_of(label_type)
    except BadSample as e:
        raise Invalid(f"label_type: {e}") from e
