"""Each built-in exporter and importer of a format keeps its contract."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from bottega_dataset.conformance import ExporterContract, ImporterContract
from bottega_dataset.sample import SIZE, Annotation, SampleRecord

NAMES = ("a.png", "deep/b.png", "other/c.png", "d.png")


def png(width: int = 100, height: int = 80) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "PNG")
    return out.getvalue()


def shape(kind: str, label: str, name: str, feature: list[list[float]], **more: Any) -> Annotation:
    return Annotation(kind, label, {"@modelarts:shape": name, "@modelarts:feature": feature}, **more)


class OfImages(ExporterContract):
    code = 1
    size: tuple[int, ...] | None = (100, 80)

    def objects(self) -> Mapping[str, bytes]:
        return {name: png() for name in NAMES}

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return ()

    def misfitting(self) -> Sequence[Annotation]:
        return ()

    def record(self, folder: str, name: str, annotations: Sequence[Annotation]) -> SampleRecord:
        return SampleRecord(folder + name, [*annotations], property={SIZE: [*self.size]} if self.size else None)

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        # The second image carries no size: it is read from the object.
        return [self.record(folder, name, said) for name, said in zip(NAMES, self.annotations(), strict=False)]

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        return [
            *(self.record(folder, NAMES[n + 1], [one]) for n, one in enumerate(self.misfitting())),
            SampleRecord(folder + "missing.png"),
        ]


BOX = shape("object_detection", "cat", "bndbox", [[10, 20], [60.5, 70]], confidence=0.5)
POLYGON = shape("object_detection", "dog", "polygon", [[1, 2], [30, 2], [15, 40]])
CIRCLE = shape("object_detection", "dog", "circle", [[50, 40], [10]])
AREA = shape("image_segmentation", "dog", "polygon", [[1, 2], [30, 2], [15, 40]])
MASK = Annotation("image_segmentation", "cat", {"@modelarts:mask": {"size": [80, 100], "counts": [10, 20, 7970]}})


class TestCocoDetection(OfImages):
    export_format, reads = "coco", "annotations/"

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [BOX], [BOX, POLYGON], []

    def misfitting(self) -> Sequence[Annotation]:
        return [CIRCLE]


class TestCocoSegmentation(OfImages):
    export_format, reads, code = "coco", "annotations/", 3

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [AREA], [MASK, AREA]

    def misfitting(self) -> Sequence[Annotation]:
        return [Annotation("image_segmentation", "cat", {"@modelarts:mask": "s3://masks/a.png"})]


class TestReadingCoco(ImporterContract):
    import_type, code, path = "coco", 1, "instances_train.json"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        images = [{"id": n, "file_name": f"{n}.png", "width": 9, "height": 9} for n in range(samples)]
        images += [{"id": samples + n, "file_name": "../x.png"} for n in range(flaws)]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(samples)]
        said = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        return {"instances_train.json": json.dumps(said).encode(), "0.png": b""}
