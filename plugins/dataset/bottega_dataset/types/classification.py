"""Labels on whole samples."""

from __future__ import annotations

from bottega_dataset.extension_points import DatasetType
from bottega_dataset.label_names import LABEL_NAME
from bottega_dataset.sample import BadSample, SampleRecord


class Classification(DatasetType):
    """Any number of labels on a whole sample, each once."""

    labels_alone = True

    def check_annotations(self, record: SampleRecord) -> None:
        # Nearly every sample of a million has one good label: that one pays for nothing else.
        own = self.annotation_type
        names = set()
        for index, one in enumerate(record.annotations):
            if one.type != own or one.loc is not None or not LABEL_NAME.fullmatch(one.name):
                self.check_annotation(one, f"annotation[{index}]")
            if one.name in names:
                raise BadSample(f"annotation[{index}] puts label '{one.name}' on the sample a second time")
            names.add(one.name)
