"""A type's own folder layout (002 §2.3.2.1), as ``import_type`` ``dir`` reads it.

``tree`` puts objects into a folder for each label, ``tile`` beside a text file with their labels. Objects with shapes
have their PASCAL VOC file beside them, sounds what is said in them; texts are two files, line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from bottega.hookspecs import hookimpl
from bottega_dataset.export_folder import ExportFolder
from bottega_dataset.extension_points import Exporter, ExportRequest
from bottega_dataset.formats import outlines
from bottega_dataset.sample import CONTENT, Annotation, BadSample, SampleRecord
from bottega_dataset.types.audio import CONTENT as SAID
from bottega_dataset.voc import Voc, write_voc

LABELED, SHAPED, SPOKEN, WRITTEN = (0, 200), (1, 3), 201, 100


class FolderExporter:
    """``Cat/1.jpg`` (tree) or ``1.jpg`` and ``1.txt`` (tile); ``1.jpg`` and ``1.xml``; ``texts.txt`` and its result.

    Objects are always copied: where they lie is what it says of them.
    """

    export_format = "dir"
    dataset_types = frozenset({*LABELED, *SHAPED, SPOKEN, WRITTEN})

    async def write(self, request: ExportRequest) -> None:
        code, folder = request.dataset_type.code, request.folder
        folder.copies = True
        async for batch in request.samples:
            if code == WRITTEN:
                _texts(folder, batch)
            elif code in SHAPED:
                await self._shaped(request, batch)
            else:
                await self._labeled(folder, batch, code, request.options.get("layout") == "tile")

    @staticmethod
    async def _labeled(folder: ExportFolder, batch: Sequence[SampleRecord], code: int, tile: bool) -> None:
        beside: dict[int, str] = {}
        names: list[tuple[SampleRecord, str]] = []
        for record in batch:
            try:
                within = "" if tile or code == SPOKEN else _folder_of(record)
            except BadSample as e:
                folder.leave_out(record, str(e))
                continue
            names.append((record, folder.name_of(record, within)))
            _note(folder, record)
            if record.annotations and (tile or code == SPOKEN):
                labels = [str((one.property or {}).get(SAID, one.name)) for one in record.annotations]
                beside[id(record)] = "\n".join(labels)
        there = {id(record) for record in await folder.copy(names)}
        files = {_beside(name, ".txt"): beside[id(r)] for r, name in names if id(r) in beside and id(r) in there}
        await folder.put({name: text.encode() for name, text in files.items()})

    @staticmethod
    async def _shaped(request: ExportRequest, batch: Sequence[SampleRecord]) -> None:
        folder, given = request.folder, Annotation(request.dataset_type.annotation_type)
        sized = await folder.sized(batch)
        within = "" if request.options.get("layout") == "tile" else None
        names = {id(record): folder.name_of(record, within) for record, _ in sized}
        there = {id(record) for record in await folder.copy([(record, names[id(record)]) for record, _ in sized])}
        files: dict[str, bytes] = {}
        for record, size in sized:
            if id(record) in there and record.annotations:
                name, wide = names[id(record)], [size.width, size.height, size.depth]
                voc = Voc(folder.path.name, name, wide, request.dataset_type.code == 3, record.annotations)
                files[_beside(name, ".xml")] = write_voc(voc, given)
        await folder.put(files)


def _texts(folder: ExportFolder, batch: Sequence[SampleRecord]) -> None:
    texts, results = folder.open("texts.txt"), folder.open("texts_result.txt")
    for record in batch:
        text = record.source.removeprefix(CONTENT)
        if not record.is_text or len(text.splitlines()) != 1:
            folder.leave_out(record, "a line of a text file carries a text of one line")
            continue
        _note(folder, record)
        texts.write(text.encode() + b"\n")
        results.write(" ".join(one.name for one in record.annotations).encode() + b"\n")


def _folder_of(record: SampleRecord) -> str:
    if len(record.annotations) > 1:
        raise BadSample(
            f"it has {len(record.annotations)} labels, and a folder is one; export_format 2 carries several"
        )
    return f"{record.annotations[0].name}/" if record.annotations else ""


def _note(folder: ExportFolder, record: SampleRecord) -> None:
    for one in record.annotations:
        more = outlines.extras(one)
        more.pop(SAID, None)
        if more or one.confidence is not None or record.usage:
            folder.note(record, "a folder carries labels: no usage, confidence or attributes")
            return


def _beside(name: str, suffix: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix) + suffix


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [FolderExporter()]
