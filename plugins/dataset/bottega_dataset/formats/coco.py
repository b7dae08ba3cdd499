"""COCO: one JSON file of images, annotations and categories (https://cocodataset.org/#format-data).

Boxes, polygons and run-length masks; no keypoints. What COCO has no field for stands in an annotation's
``attributes``, as CVAT and FiftyOne write it.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import anyio.to_thread
import orjson

from bottega.errors import Invalid, NotFound
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats import outlines
from bottega_dataset.formats.outlines import SUBSET_OF, bounds, confidence_of, flat, number, numbers, shape_of
from bottega_dataset.formats.reading import SHOWN, Entry, FileImporter, Reader, inside, label_of
from bottega_dataset.media import MAX_PIXELS, ImageInfo
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE
from bottega_dataset.types.masks import run_lengths

DETECTION, SEGMENTATION = 1, 3
_ARRAYS = ("images", "annotations", "categories")
_CROWD = "iscrowd"


def encode(record: SampleRecord, category_of: Mapping[str, int]) -> tuple[list[dict[str, Any]], list[str]]:
    """A sample's annotations as COCO has them, without ids, and what of them COCO cannot carry."""
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for index, one in enumerate(record.annotations):
        try:
            body = _encoded(one)
        except BadSample as e:
            notes.append(f"annotation[{index}]: {e}")
            continue
        more = outlines.extras(one)
        body["category_id"] = category_of[one.name]
        body[_CROWD] = more.pop(_CROWD, 0)
        if one.confidence is not None:
            body["score"] = one.confidence
        if one.id is not None:
            more["id"] = one.id
        if more or "attributes" in body:
            body["attributes"] = {**body.get("attributes", {}), **more}
        found.append(body)
    return found, notes


def decode(
    image: Mapping[str, Any],
    annotations: Iterable[Mapping[str, Any]],
    categories: Mapping[int, str],
    code: int,
    kind: str,
) -> tuple[SampleRecord, list[str]]:
    """The sample of an image, its source still to be found, and what could not be taken over. Raises BadSample."""
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise BadSample("the image has no file_name")
    given = [image.get("width"), image.get("height")]
    size = [n for n in given if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    known = size if len(size) == 2 else None
    record = SampleRecord("", name=name.rpartition("/")[2], property={SIZE: size} if known else None)
    notes: list[str] = []
    for one in annotations:
        try:
            record.annotations.append(_decoded(one, known, categories, code, kind))
        except BadSample as e:
            notes.append(f"annotation {str(one.get('id'))[:40]}: {e}")
    return record, notes


def _encoded(one: Annotation) -> dict[str, Any]:
    shape, feature = shape_of(one)
    mask = (one.property or {}).get(MASK)
    if mask is not None:
        if isinstance(mask, str):
            raise BadSample("its mask is a PNG file; COCO carries run lengths")
        if shape:
            raise BadSample("it has a polygon beside its mask; COCO carries one of them")
        height, _, counts = run_lengths(mask, "mask")
        return {"bbox": list(outlines.mask_bounds(height, counts)), "area": sum(counts[1::2]), "segmentation": mask}
    if shape not in ("bndbox", "polygon"):
        raise BadSample(f"COCO carries no {shape or 'annotation without a shape'}")
    left, top, right, bottom = bounds(feature)
    box = [left, top, number(right - left), number(bottom - top)]
    if shape == "bndbox":
        return {"bbox": box, "area": number(box[2] * box[3]), "segmentation": []}
    drawn = {"bbox": box, "area": outlines.area(feature), "segmentation": [flat(feature)]}
    return drawn | {"attributes": {"shape": "polygon"}}


def _decoded(
    one: Mapping[str, Any], size: Sequence[int] | None, categories: Mapping[int, str], code: int, kind: str
) -> Annotation:
    category = one.get("category_id")
    if not isinstance(category, int) or category not in categories:
        raise BadSample(f"there is no category {str(category)[:40]}")
    more = one.get("attributes")
    more = dict(more) if isinstance(more, dict) else {}
    is_polygon, ident = more.pop("shape", None) == "polygon", more.pop("id", None)
    given = one.get("segmentation")
    if code == SEGMENTATION or (is_polygon and isinstance(given, list) and len(given) == 1):
        prop = _area_property(given, size)
    else:
        left, top, width, height = numbers(one.get("bbox"), "bbox", 4)[:4]
        corners = [[left, top], [number(left + width), number(top + height)]]
        prop = {SHAPE: "bndbox", FEATURE: corners}
    if one.get(_CROWD) == 1:
        more[_CROWD] = 1
    found = Annotation(kind, label_of(categories[category]), prop, confidence=confidence_of(one.get("score")))
    found.id = ident if isinstance(ident, str) else None
    return outlines.with_extras(found, more)


def _area_property(given: Any, size: Sequence[int] | None) -> dict[str, Any]:
    if isinstance(given, dict):
        run_lengths(given, "segmentation")
        return {MASK: {"size": given["size"], "counts": given["counts"]}}
    if not isinstance(given, list) or not given:
        raise BadSample("it has no segmentation")
    polygons = [numbers(part, "segmentation", 6) for part in given]
    if len(polygons) == 1:
        return {SHAPE: "polygon", FEATURE: outlines.paired(polygons[0])}
    if size is None or size[0] * size[1] > MAX_PIXELS:
        raise BadSample("it has several polygons, for which the image's width and height must be known")
    return {MASK: outlines.mask_of_polygons(polygons, *size)}


class CocoExporter:
    """``annotations/instances_<subset>.json`` and ``images/<subset>/…``; the subsets are the samples' usages."""

    export_format = "coco"
    dataset_types = frozenset({DETECTION, SEGMENTATION})

    async def write(self, request: ExportRequest) -> None:
        folder = request.folder
        subsets: dict[str, _SubsetFile] = {}
        category_of = {name: number for number, name in enumerate(request.labels, 1)}
        async for batch in request.samples:
            sized = await folder.sized(batch)
            names = {id(record): folder.name_of(record) for record, _ in sized}
            wanted = [(r, f"images/{SUBSET_OF[r.usage]}/{names[id(r)]}") for r, _ in sized]
            there = {id(record) for record in await folder.copy(wanted)}
            for record, size in sized:
                if id(record) not in there:
                    continue
                for one in record.annotations:
                    category_of.setdefault(one.name, len(category_of) + 1)
                annotations, notes = encode(record, category_of)
                for note in notes:
                    folder.note(record, note)
                subset = SUBSET_OF[record.usage]
                if subset not in subsets:
                    subsets[subset] = _SubsetFile(folder.open(f"annotations/instances_{subset}.json"))
                subsets[subset].add(record, names[id(record)], size, annotations, linked=not folder.copies)
        for file in subsets.values():
            file.finish(category_of)


class _SubsetFile:
    """One JSON file: images are written at once, annotations kept aside until all images are there."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._aside: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by finish
        self._images = self._annotations = 0
        out.write(b'{"images": [')

    def add(
        self, record: SampleRecord, name: str, size: ImageInfo, annotations: list[dict[str, Any]], *, linked: bool
    ) -> None:
        self._images += 1
        image: dict[str, Any] = {"id": self._images, "file_name": name, "width": size.width, "height": size.height}
        if linked:
            image["coco_url"] = record.source
        self._out.write((b",\n" if self._images > 1 else b"\n") + orjson.dumps(image))
        for one in annotations:
            self._annotations += 1
            body = {"id": self._annotations, "image_id": self._images, **one}
            self._aside.write((b",\n" if self._annotations > 1 else b"\n") + orjson.dumps(body))

    def finish(self, category_of: Mapping[str, int]) -> None:
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in category_of.items()]
        self._out.write(b'\n], "annotations": [')
        self._aside.seek(0)
        shutil.copyfileobj(self._aside, self._out)
        self._aside.close()
        self._out.write(b'\n], "categories": ' + orjson.dumps(categories) + b"}\n")


class CocoImporter(FileImporter):
    """The images of a COCO file, in its order. A sample is the object at ``coco_url``, else the file ``file_name``.

    Files are looked for beside the JSON file, above it, and there in ``images``, ``images/<subset>``, ``<subset>``.
    """

    import_type = "coco"
    dataset_types = frozenset({DETECTION, SEGMENTATION})
    suffixes = (".json",)

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        index = await anyio.to_thread.run_sync(CocoIndex, local, str(source))
        subset = source.name.removesuffix(".json").partition("_")[2] or source.name.removesuffix(".json")
        try:
            root = await find_root(request.store, source, subset, index.first_name)
        except NotFound:
            if not index.has_urls:
                index.close()
                raise
            index.by_url = True
            root = source
        index.of(root, outlines.usage_of(subset), request.dataset_type.code, request.dataset_type.annotation_type)
        return index


class CocoIndex(Reader):
    """A COCO file sorted by image, in a database on disk: the file may be larger than memory.

    Raises Invalid when it is no COCO file, or ends in the middle.
    """

    def __init__(self, file: Path, place: str) -> None:
        self._place = place
        self._db = sqlite3.connect(str(file.parent / "coco.db"), check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE image (n INTEGER PRIMARY KEY, id, body);"
            "CREATE TABLE annotation (image, body);"
        )
        self._categories: dict[int, str] = {}
        self.first_name = ""
        self.has_urls = self.by_url = False
        try:
            self._load(file)
        except BaseException:
            self.close()
            raise
        self._total = self._db.execute("SELECT count(*) FROM image").fetchone()[0]

    def of(self, root: ObjectPath, usage: str | None, code: int, kind: str) -> None:
        self._root, self._usage, self._code, self._kind = root, usage, code, kind

    def close(self) -> None:
        self._db.close()

    def entries(self) -> Iterator[Entry]:
        for n, ident, body in self._db.execute("SELECT n, id, body FROM image ORDER BY n"):
            self.progress = n / self._total
            rows = self._db.execute("SELECT body FROM annotation WHERE image = ? ORDER BY rowid", (ident,))
            yield self._entry(orjson.loads(body), [orjson.loads(row[0]) for row in rows])
        for (image,) in self._db.execute("SELECT image FROM annotation EXCEPT SELECT id FROM image"):
            yield Entry(self._place, reason=f"annotations name image {image.partition(' ')[2]}; there is none")

    def _entry(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> Entry:
        place = f"{self._place}, image {str(image.get('id'))[:40]}"
        shown = orjson.dumps(image)[:SHOWN].decode("utf-8", "replace")
        try:
            record, notes = decode(image, annotations, self._categories, self._code, self._kind)
            record.source = self._source(image)
        except BadSample as e:
            return Entry(place, reason=str(e), text=shown)
        record.usage = self._usage
        return Entry(place, record, text=shown, notes=notes)

    def _source(self, image: dict[str, Any]) -> str:
        url = image.get("coco_url")
        if isinstance(url, str) and (self.by_url or url.startswith(("s3://", "obs://"))):
            return inside(self._root, url)
        return inside(self._root, image["file_name"])

    def _load(self, file: Path) -> None:
        import ijson

        images: list[tuple[Any, bytes]] = []
        annotations: list[tuple[Any, bytes]] = []
        found = set()
        try:
            for name in _ARRAYS:
                with file.open("rb") as opened:
                    for item in ijson.items(opened, f"{name}.item", use_float=True):
                        found.add(name)
                        if not isinstance(item, dict):
                            raise Invalid(f"{self._place}: every one of {name} must be an object")
                        self._keep(name, item, images, annotations)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as e:
            raise Invalid(f"{self._place} is not whole JSON: {e}") from e
        self._flush(images, annotations)
        self._db.execute("CREATE INDEX by_image ON annotation (image)")
        if "images" not in found:
            raise Invalid(f"{self._place} is no COCO file: it has no list 'images'")

    def _keep(
        self, name: str, item: dict[str, Any], images: list[tuple[Any, bytes]], annotations: list[tuple[Any, bytes]]
    ) -> None:
        try:
            body = orjson.dumps(item)
        except (orjson.JSONEncodeError, TypeError) as e:
            raise Invalid(f"{self._place}: one of {name} cannot be read: {e}") from e
        if name == "categories":
            if isinstance(item.get("id"), int) and item.get("name") is not None:
                self._categories[item["id"]] = str(item["name"])
        elif name == "images":
            if not self.first_name and isinstance(item.get("file_name"), str):
                self.first_name = item["file_name"]
            self.has_urls = self.has_urls or isinstance(item.get("coco_url"), str)
            images.append((_key(item.get("id")), body))
        else:
            annotations.append((_key(item.get("image_id")), body))
        if len(images) + len(annotations) >= 10_000:
            self._flush(images, annotations)

    def _flush(self, images: list[tuple[Any, bytes]], annotations: list[tuple[Any, bytes]]) -> None:
        self._db.executemany("INSERT INTO image (id, body) VALUES (?, ?)", images)
        self._db.executemany("INSERT INTO annotation (image, body) VALUES (?, ?)", annotations)
        images.clear()
        annotations.clear()


def _key(ident: Any) -> str:
    return f"{type(ident).__name__} {ident}"[:200]


async def find_root(store: ObjectStore, file: ObjectPath, subset: str, name: str) -> ObjectPath:
    """The folder below which `name` is. Raises NotFound, telling where it was looked for.

    A whole path needs no folder: whether it may be read is asked where it is.
    """
    beside = ObjectPath(file.bucket, file.key.rpartition("/")[0])
    above = ObjectPath(file.bucket, beside.key.rpartition("/")[0])
    bases = [beside, above] if beside.key else [beside]
    folders = ("images/" + subset, "images", subset, "", "JPEGImages")
    if name.startswith(("s3://", "obs://", "http://", "https://")):
        return beside
    tried = [ObjectPath(b.bucket, b.folder.key if b.key else "") / f if f else b for b in bases for f in folders]
    for root in tried:
        try:
            await store.head(ObjectPath.parse(inside(root, name)))
        except (NotFound, BadSample, Invalid):
            continue
        return root
    looked = ", ".join(str(root.folder) for root in tried)
    raise NotFound(f"'{name}', which {file} names, is in none of {looked}")


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [CocoImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [CocoExporter()]
