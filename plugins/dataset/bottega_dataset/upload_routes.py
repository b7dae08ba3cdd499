"""Adding samples: ``POST …/data-annotations/samples`` with their bytes in JSON, or ``…/samples/files`` as a form."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile

from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import samples, uploads
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.events import LabelsChanged, SamplesUploaded
from bottega_dataset.extension_points import DatasetType, ImportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling_routes import annotation_of, properties
from bottega_dataset.requests import LabelFormat, NewSample, NewSamples, SampleLabelBody
from bottega_dataset.sample import Annotation, BadSample, SampleRecord, identity
from bottega_dataset.sample_routes import DATASET, SAMPLES
from bottega_dataset.uploads import File, Uploads

UPLOAD = "modelarts:dataset:uploadSamples"
_MOST_FILES = 1000
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "labels": {"type": "string", "description": "JSON: a list of labels for all of the files."},
                        "encoding": {"type": "string", "default": "UTF-8"},
                    },
                }
            }
        },
    }
}


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)
    storage = Uploads(platform.objects)

    @routes.post(SAMPLES)
    async def add_samples(
        dataset_id: str, body: NewSamples, caller: Caller = requires(UPLOAD, DATASET, keep_body=False)
    ) -> Any:
        """Add samples by their bytes (base64), or objects that are in storage by their path.

        They are stored in the dataset's input path; a file that is none of the dataset's kind is refused by itself.
        """
        found, kind = await opened(caller, dataset_id)
        files = [_file(one, kind, caller.principal.user_name) for one in body.samples]
        return await take(caller, found, kind, files, body.label_format, body.final_annotation)

    @routes.post(SAMPLES + "/files", openapi_extra=_FORM)
    async def add_files(
        dataset_id: str, request: Request, caller: Caller = requires(UPLOAD, DATASET, keep_body=False)
    ) -> Any:
        """The same as a form (``multipart/form-data``), as a browser or curl sends files.

        `files` are the files, `labels` a JSON list of labels for all of them, `encoding` that of texts.
        """
        found, kind = await opened(caller, dataset_id)
        # Only now: before its caller is known the body has to be whole, for its signature.
        async with request.form(max_files=_MOST_FILES) as form:
            labels, encoding = str(form.get("labels") or "[]"), str(form.get("encoding") or "UTF-8")
            try:
                given = TypeAdapter(list[SampleLabelBody]).validate_python(orjson.loads(labels))
            except (orjson.JSONDecodeError, ValidationError) as e:
                raise Invalid(f"labels must be a JSON list of labels: {e}") from e
            sent = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
            if not sent:
                raise Invalid("the form has no files: send each as a field 'files' with a file name")
            files = [File(one.filename or "", await one.read(), encoding=encoding) for one in sent]
        for one in files:
            one.annotations = _said(one.name, given, kind, caller.principal.user_name)
        return await take(caller, found, kind, files, LabelFormat(), True)

    async def opened(caller: Caller, dataset_id: str) -> tuple[Found, DatasetType]:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        return found, kinds.of(found.dataset.dataset_type)

    async def take(
        caller: Caller, found: Found, kind: DatasetType, files: Sequence[File], label_format: LabelFormat, final: bool
    ) -> Any:
        dataset = found.dataset
        if not final and dataset.dataset_type not in samples.TO_CONFIRM:
            raise Invalid(f"final_annotation false is for images classified and objects detected, not {kind.name}")
        uploads.check_batch(kind, files)
        target = uploads.folder(dataset, found.resource.name)
        if any(one.at is None for one in files):
            await caller.check_path(target, write=True)
        for one in files:
            if one.at is not None:
                await caller.check_path(one.at)
        options = dataset.options or {}
        source = options.get("data_source") or {"with_column_header": True}
        formats = {
            **dataset.label_format,
            **label_format.model_dump(exclude_none=True),
            "with_column_header": source.get("with_column_header"),
        }

        def request(store: ObjectStore) -> ImportRequest:
            return ImportRequest(target, kind, store, formats, schema=options.get("schema") or ())

        importer = kinds.importer("dir", dataset.dataset_type)
        await storage.take(kind, target, files, importer, request)
        records = [record for one in files if one.error is None for record in one.records]
        async with platform.database.transaction() as tx:
            kept = records if final else [_bare(record) for record in records]
            added = await samples.add(tx.session, dataset, kind, kept)
            if not final:
                await samples.suggest(tx.session, dataset, kind, records, "upload")
            tx.emit(SamplesUploaded(dataset_id=dataset.id, count=added.imported), found.resource.urn)
            if added.new_labels:
                tx.emit(LabelsChanged(dataset_id=dataset.id, created=added.new_labels), found.resource.urn)
        return {
            "success": all(one.error is None for one in files),
            "results": [_result(one) for one in files],
            "added_sample_count": added.imported,
            "known_sample_count": added.known,
        }

    return routes


def _file(one: NewSample, kind: DatasetType, user_name: str) -> File:
    """Raises Invalid, naming the sample, for one without data, or with data that is not base64."""
    if one.sample_type is not None and one.sample_type != kind.sample_type:
        raise Invalid(f"'{one.name}' has sample_type {one.sample_type}; the dataset holds {kind.sample_type}")
    path = one.data_source.data_path if one.data_source else None
    if (one.data is None) == (path is None):
        raise Invalid(f"'{one.name}' must have data, or a data_source with a data_path")
    file = File(one.name, encoding=one.encoding, property=properties(one.metadata) or {})
    if path is not None:
        if one.data_source and one.data_source.data_type != 0:
            raise Invalid(f"data_source.data_type {one.data_source.data_type} is not offered; use 0, object storage")
        file.at = ObjectPath.parse(path, "data_path")
        file.name = file.name or file.at.name
    else:
        try:
            file.data = base64.b64decode(one.data or "", validate=True)
        except ValueError as e:  # of which binascii.Error is one; what is not ASCII is another
            raise Invalid(f"the data of '{one.name}' is not base64: {e}") from e
    file.annotations = _said(one.name, one.labels, kind, user_name)
    return file


def _said(name: str, labels: Sequence[SampleLabelBody], kind: DatasetType, user_name: str) -> list[Annotation]:
    try:
        return [annotation_of(label, kind, user_name) for label in labels]
    except BadSample as e:
        raise Invalid(f"'{name}': {e}") from e


def _bare(record: SampleRecord) -> SampleRecord:
    return SampleRecord(
        record.source, name=record.name, size=record.size, modified_at=record.modified_at, property=record.property
    )


def _result(one: File) -> dict[str, Any]:
    if one.error is not None:
        return {"name": one.name, "success": False, "error_code": one.error.code, "error_msg": one.error.message}
    stored = {"source": str(one.at)} if one.at else {}
    ids = [identity(record).hex() for record in one.records[:1]] if len(one.records) == 1 else []
    return {"name": one.name, "success": True, "info": one.info, **stored, **({"sample_id": ids[0]} if ids else {})}
