"""Types whose annotations lie in a PASCAL VOC file for each image (002 §2.3.2.2 and §2.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bottega.objects import ObjectPath
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord, identity
from bottega_dataset.types.geometry import MASK
from bottega_dataset.types.masks import DRAWN, draw
from bottega_dataset.voc import Voc, read_voc, write_voc

_ELSEWHERE = re.compile(r"[^\w.-]")


class LocatedInVoc(DatasetType):
    """Reads and writes one file for each image, beside the manifest of a version."""

    companion = ".xml"

    def expanded(self, record: SampleRecord, files: Mapping[str, bytes]) -> SampleRecord:
        annotations: list[Annotation] = []
        prop = record.property
        for index, one in enumerate(record.annotations):
            if one.loc is None:
                annotations.append(one)
                continue
            if one.type not in self.kinds:
                self.check_annotation(one, f"annotation[{index}]")
            try:
                voc = read_voc(files[one.loc], one.type, one)
            except BadSample as e:
                raise BadSample(f"{one.loc}: {e}") from e
            annotations += voc.objects
            if voc.size and SIZE not in (prop or {}):
                prop = {**(prop or {}), SIZE: [*voc.size]}
        return replace(record, annotations=annotations, property=prop)

    def published(self, record: SampleRecord, folder: ObjectPath) -> tuple[SampleRecord, Mapping[ObjectPath, bytes]]:
        if not record.annotations:
            return record, {}
        directory, _, name = record.source.rpartition("/")
        if not record.source.startswith("s3://"):
            name = _ELSEWHERE.sub("_", name)
        stem = name.rpartition(".")[0] or name
        # A copy of the image in the folder has its own name already.
        base = stem if record.source.startswith(str(folder)) else f"{identity(record).hex()}-{stem}"
        first, path, mask_path = record.annotations[0], folder / f"{base}.xml", folder / f"{base}.png"
        given = Annotation(
            first.type,
            hard=first.hard,
            annotated_by=first.annotated_by,
            created_at=first.created_at,
            loc=str(path),
        )
        picture = self._drawn(record)
        voc = Voc(
            folder=directory.rpartition("/")[2],
            filename=name,
            size=(record.property or {}).get(SIZE),
            segmented=self.code == 3,
            objects=record.annotations,
            mask_source=str(mask_path) if picture else None,
        )
        files = {path: write_voc(voc, given)}
        return replace(record, annotations=[given]), {**files, mask_path: picture} if picture else files

    @staticmethod
    def _drawn(record: SampleRecord) -> bytes | None:
        """A picture of the masks given as run lengths; None where there are none, or too many, or of several sizes."""
        masks: list[Any] = [(one.property or {}).get(MASK) for one in record.annotations]
        masks = [mask if isinstance(mask, dict) else None for mask in masks]
        sizes = {tuple(mask["size"]) for mask in masks if mask}
        return draw(masks) if len(sizes) == 1 and len(masks) <= DRAWN else None
