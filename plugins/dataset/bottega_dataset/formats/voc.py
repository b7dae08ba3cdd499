"""PASCAL VOC folders: ``JPEGImages``, ``Annotations`` (an XML file for each image) and ``ImageSets/Main``.

The files are those of 002 §2.3.2.2 (`bottega_dataset.voc`). Their ``folder`` says where the image lies when it was not
copied beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats.outlines import SUBSET_OF, USAGE_OF
from bottega_dataset.formats.reading import Entry, ListingImporter, inside
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord
from bottega_dataset.voc import Voc, read_voc, write_voc
from bottega_dataset.xml_reader import MAX_XML

IMAGES, ANNOTATIONS, SETS = "JPEGImages", "Annotations", "ImageSets/Main"
_PARTS = ("train", "val", "test", "inference")


class VocExporter:
    """``JPEGImages/a.jpg``, ``Annotations/a.xml``, and the subsets in ``ImageSets/Main/<subset>.txt``."""

    export_format = "voc"
    dataset_types = frozenset({1, 3})

    async def write(self, request: ExportRequest) -> None:
        folder, given = request.folder, Annotation(request.dataset_type.annotation_type)
        async for batch in request.samples:
            sized = await folder.sized(batch)
            names = {id(record): folder.name_of(record) for record, _ in sized}
            copied = await folder.copy([(record, f"{IMAGES}/{names[id(record)]}") for record, _ in sized])
            there = {id(record) for record in copied}
            written: dict[str, bytes] = {}
            for record, size in sized:
                if id(record) not in there:
                    continue
                name = names[id(record)]
                stem = name.removesuffix(PurePosixPath(name).suffix)
                where, _, file = record.source.rpartition("/")
                place = (IMAGES, name) if folder.copies else (where, file)
                wide = [size.width, size.height, size.depth]
                written[f"{ANNOTATIONS}/{stem}.xml"] = write_voc(
                    Voc(*place, wide, request.dataset_type.code == 3, record.annotations), given
                )
                folder.open(f"{SETS}/{SUBSET_OF[record.usage]}.txt").write(f"{stem}\n".encode())
            await folder.put(written)


class VocImporter(ListingImporter):
    """The XML files below ``Annotations``, or of the whole folder where there is none of that name."""

    import_type = "voc"
    dataset_types = frozenset({1, 3})
    suffixes = (".xml",)

    async def prepare(self, request: ImportRequest) -> Mapping[str, str]:
        usages: dict[str, str] = {}
        for part in _PARTS:
            path = request.path.folder / f"{SETS}/{part}.txt"
            async for info in request.store.list(path, limit=1):
                if info.path == path:
                    lines = (await request.store.get(path)).decode("utf-8", "replace").splitlines()
                    # A list for one class has -1, 0 or 1 behind each name.
                    usages |= {line.split(" ")[0]: USAGE_OF[part] for line in lines if line.strip()}
        return usages

    async def entry(self, request: ImportRequest, known: Mapping[str, str], info: ObjectInfo) -> Entry:
        place = str(info.path)
        try:
            if info.size > MAX_XML:
                raise BadSample(f"the XML is larger than {MAX_XML // 2**20} MB")
            data = await request.store.get(info.path)
            return Entry(place, self._record(request, known, info.path, data))
        except (BadSample, Invalid) as e:
            return Entry(place, reason=str(e))

    @staticmethod
    def _record(request: ImportRequest, known: Mapping[str, str], path: ObjectPath, data: bytes) -> SampleRecord:
        voc = read_voc(data, request.dataset_type.annotation_type)
        if not voc.filename:
            raise BadSample("the file has no <filename>")
        root, _, inner = str(path).rpartition(f"/{ANNOTATIONS}/")
        beside = path.key.rpartition("/")[0]
        images = ObjectPath.parse(f"{root}/{IMAGES}") if root else ObjectPath(path.bucket, beside)
        here = voc.folder.startswith(("s3://", "obs://"))
        source = inside(ObjectPath.parse(voc.folder) if here else images, voc.filename)
        stem = (inner if root else path.name).removesuffix(".xml")
        prop = {SIZE: list(voc.size)} if voc.size else None
        annotations = list(voc.objects)
        return SampleRecord(source, annotations, known.get(stem), name=source.rpartition("/")[2], property=prop)


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [VocImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [VocExporter()]
