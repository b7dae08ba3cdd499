"""Each built-in exporter and importer of a format keeps its contract."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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


class TestYoloDetection(OfImages):
    export_format = "yolo"

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [shape("object_detection", "cat", "bndbox", [[10, 20], [60.5, 70]])], [POLYGON], [POLYGON, POLYGON]

    def misfitting(self) -> Sequence[Annotation]:
        return CIRCLE, BOX  # a box with a confidence


class TestReadingYolo(ImporterContract):
    import_type, code, many = "yolo", 1, 250

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        images = {f"train/images/{n}.png": png(9, 9) for n in range(samples)}
        labels = {f"train/labels/{n}.txt": b"0 0.5 0.5 0.5 0.5\n" for n in range(samples + flaws)}
        broken = {f"train/images/{samples + n}.png": b"no image" for n in range(flaws)}
        return {"data.yaml": b"names: [cat]\n", **images, **labels, **broken}


VOC = shape("object_detection", "cat", "circle", [[50, 40], [10]], hard=True, confidence=0.5)


class TestVocDetection(OfImages):
    export_format = "voc"

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [BOX, VOC], [POLYGON, CIRCLE], []


class TestReadingVoc(ImporterContract):
    import_type, code, many = "voc", 1, 250

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        box = (
            "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>"
        )
        good = {
            f"Annotations/{n}.xml": f"<annotation><filename>{n}.png</filename>{box}</annotation>".encode()
            for n in range(samples)
        }
        return good | {f"Annotations/x{n}.xml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>" for n in range(flaws)}


class TestLabelStudioDetection(OfImages):
    export_format, reads = "label-studio", "tasks.json"

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        point = shape("object_detection", "cat", "point", [[3, 4]])
        guessed = shape("object_detection", "cat", "bndbox", [[1, 2], [3, 4]], annotated_by="model/1", confidence=0.25)
        return [BOX, POLYGON], [CIRCLE, point], [guessed], []

    def misfitting(self) -> Sequence[Annotation]:
        return [shape("object_detection", "cat", "line", [[1, 2], [3, 4]])]


class OfTexts(ExporterContract):
    said: Sequence[Sequence[Annotation]]

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        texts = ("Tom likes Ann, and Ann Tom.", "Ann", 'a "quoted", 中文 text; with = signs', "nobody")
        return [SampleRecord(f"content://{text}", [*one]) for text, one in zip(texts, self.said, strict=False)]


class TestLabelStudioTriplets(OfTexts):
    export_format, reads, code = "label-studio", "tasks.json", 102
    said = (
        [
            Annotation("text_entity", "person", {"@modelarts:start_index": 0, "@modelarts:end_index": 3}, id="a"),
            Annotation("text_entity", "person", {"@modelarts:start_index": 10, "@modelarts:end_index": 13}, id="b"),
            Annotation("text_triplet", "likes", {"@modelarts:from": "a", "@modelarts:to": "b"}),
        ],
        [Annotation("text_entity", "person", {"@modelarts:start_index": 0, "@modelarts:end_index": 3})],
        [],
    )


class TestLabelStudioSpeech(ExporterContract):
    export_format, reads, code = "label-studio", "tasks.json", 202

    def objects(self) -> Mapping[str, bytes]:
        return {"a.wav": b"", "b.wav": b""}

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        first = {"@modelarts:start_time": "00:00:01.250", "@modelarts:end_time": "01:00:02.000"}
        second = {**first, "@modelarts:source": "Tom", "@modelarts:content": "How are you?"}
        said = [Annotation("audio_segmentation", "noise", first), Annotation("audio_segmentation", "", second)]
        return [SampleRecord(folder + "a.wav", said), SampleRecord(folder + "b.wav")]


class TestReadingLabelStudio(ImporterContract):
    import_type, code, path = "label-studio", 100, "tasks.json"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        result = {"type": "choices", "from_name": "c", "to_name": "t", "value": {"choices": ["cat"]}}
        tasks: list[Any] = [
            {"data": {"text": f"text {n}"}, "annotations": [{"result": [result]}]} for n in range(samples)
        ]
        return {"tasks.json": json.dumps([*tasks, *[{"data": {}}] * flaws]).encode()}


class TestCvatDetection(OfImages):
    export_format, reads = "cvat", "annotations.xml"

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        line = shape("object_detection", "cat", "dashed", [[1, 2], [3.5, 4]])
        line.property = {**(line.property or {}), "@modelarts:occluded": 1}
        return [BOX, POLYGON], [CIRCLE, line], [shape("object_detection", "cat", "point", [[3, 4]])], []


class TestReadingCvat(ImporterContract):
    import_type, code, path = "cvat", 1, "a.xml"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        box = '<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2"/>'
        images = [f'<image name="{n}.png" width="9" height="9">{box}</image>' for n in range(samples)]
        text = "".join([*images, *['<image name="../x.png"/>'] * flaws])
        return {"a.xml": f"<annotations>{text}</annotations>".encode(), "0.png": b""}


class TestCsvTexts(OfTexts):
    export_format, reads, code = "csv", "data.csv", 100
    said = (
        [Annotation("text_classification", "fine"), Annotation("text_classification", "long")],
        [],
        [Annotation("text_classification", "fine")],
    )

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        return [SampleRecord("content://odd", [Annotation("text_classification", "fine", hard=True)])]


class TestCsvImages(OfImages):
    export_format, reads, code, size = "csv", "data.csv", 0, None

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [Annotation("image_classification", "cat"), Annotation("image_classification", "dog")], []


class TestCsvTable(ExporterContract):
    export_format, reads, code = "csv", "data.csv", 400

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        rows = ({"name": "Tom", "says": 'a "b",\nc'}, {"name": "", "says": "中"})
        said = [[Annotation("table", "good")], []]
        return [
            SampleRecord(f"content://{json.dumps(row, ensure_ascii=False, separators=(',', ':'))}", one)
            for row, one in zip(rows, said, strict=True)
        ]

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        return [SampleRecord('content://{"other":"x"}')]


class TestReadingCsv(ImporterContract):
    import_type, code, path = "csv", 100, "a.csv"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        lines = [f'"text, {n}",cat\n' for n in range(samples)] + [f"{n}\n" for n in range(flaws)]
        return {"a.csv": "".join(["text,label\n", *lines]).encode()}


class TestParquetSegmentation(OfImages):
    export_format, reads, code = "parquet", "data/", 3

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [AREA], [MASK, AREA], []

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        return [SampleRecord(folder + "missing.png")]


class TestReadingParquet(ImporterContract):
    import_type, code, path = "parquet", 100, "a.parquet"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        table = pa.table(
            {"text": [f"text {n}" for n in range(samples)] + [""] * flaws, "label": ["cat"] * (samples + flaws)}
        )
        out = io.BytesIO()
        pq.write_table(table, out)
        return {"a.parquet": out.getvalue()}


class TestReadingHuggingFace(ImporterContract):
    """As ``datasets`` 5.2.0 writes it: a stream of batches whose schema has the features."""

    import_type, code, path = "huggingface", 100, ""

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        label = {"names": ["dog", "cat"], "_type": "ClassLabel"}
        features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
        schema = pa.schema(
            {"text": pa.string(), "label": pa.int64()},
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        rows = [{"text": f"text {n}", "label": 1} for n in range(samples)] + [{"text": "odd", "label": 7}] * flaws
        out = io.BytesIO()
        with pa.ipc.new_stream(out, schema) as stream:
            stream.write_table(pa.Table.from_pylist(rows, schema), max_chunksize=1000)
        return {
            "dataset_dict.json": b'{"splits": ["train"]}',
            "train/state.json": b"{}",
            "train/data-00000-of-00001.arrow": out.getvalue(),
        }


class TestFolderOfImages(OfImages):
    export_format, code, size = "dir", 0, None

    def annotations(self) -> Sequence[Sequence[Annotation]]:
        return [Annotation("image_classification", "cat")], [Annotation("image_classification", "dog")], []

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        both = [Annotation("image_classification", "cat"), Annotation("image_classification", "dog")]
        return [SampleRecord(folder + "d.png", both), SampleRecord(folder + "missing.png")]


class TestFolderOfTexts(OfTexts):
    export_format, code = "dir", 100
    said = TestCsvTexts.said

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        return [SampleRecord("content://two\nlines")]


class TestFolderOfSpeech(ExporterContract):
    export_format, code = "dir", 201

    def objects(self) -> Mapping[str, bytes]:
        return {"a.wav": b"", "b.wav": b""}

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        said = [Annotation("audio_content", "", {"@modelarts:content": "How are you?"})]
        return [SampleRecord(folder + "a.wav", said), SampleRecord(folder + "b.wav")]
