"""The rules for input, output and data of a task (002 §6.8.2, §6.8.3), checked before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from bottega.database import AsyncSession
from bottega.entities import Resource
from bottega.errors import Invalid, NotFound
from bottega.objects import ObjectPath, ObjectStore
from bottega.workspaces import closed_to_caller
from bottega_conversion.converters import Converter
from bottega_conversion.model_config import FILE_NAME

_MOST_FILES = 1000
_LARGEST_MANIFEST = 64 << 20
_MOST_FOLDERS = 1000


@dataclass(frozen=True)
class Data:
    """What a task calibrates and compares with. `folders` are those of the pictures a manifest names."""

    kind: str
    path: ObjectPath
    folders: tuple[ObjectPath, ...] = ()
    urn: str | None = None


async def find_model(store: ObjectStore, path: ObjectPath, converter: Converter) -> ObjectPath:
    """The one model file of a folder: in its ``model/`` as training writes it, or directly in it; or `path` itself.

    Raises Invalid that says what is there and what should be.
    """
    formats = " or ".join(converter.source_suffixes)
    if path.name.endswith(converter.source_suffixes) and not path.key.endswith("/"):
        try:
            return (await store.head(path)).path
        except NotFound:
            raise Invalid(f"input_path {path}: there is no such object") from None
    folder = path.folder
    names = [info.path async for info in store.list(folder, limit=_MOST_FILES)]
    if not names:
        raise Invalid(f"input_path {folder} holds nothing; it must hold model/<name>{formats}")
    for inside in (folder / "model/", folder):
        here = [p for p in names if p.key.startswith(inside.key) and "/" not in p.key[len(inside.key) :]]
        found = [p for p in here if p.name.endswith(converter.source_suffixes)]
        if len(found) > 1:
            raise Invalid(
                f"{inside} holds {len(found)} models ({', '.join(p.name for p in found)}); leave one, or name it"
            )
        if found:
            return found[0]
    shown = ", ".join(p.key[len(folder.key) :] for p in names[:5])
    raise Invalid(
        f"input_path {folder} holds no model for template '{converter.id}': a {formats} file, in model/ or directly; "
        f"it holds {shown}{', …' if len(names) > 5 else ''}"
    )


async def companions(store: ObjectStore, model: ObjectPath) -> list[ObjectPath]:
    """What belongs to a model and lies beside it: its configuration, and ONNX weights in a file of their own."""
    found = []
    folder = ObjectPath(model.bucket, model.key[: model.key.rfind("/") + 1])
    for name in (FILE_NAME, f"{model.name}.data"):
        try:
            found.append((await store.head(folder / name)).path)
        except NotFound:
            continue
    return found


async def check_output(store: ObjectStore, output: ObjectPath) -> None:
    """Raises Invalid unless `output` is an empty folder."""
    if not output.key:
        raise Invalid(f"output_path {output} is a whole bucket; name a folder in it")
    async for info in store.list(output, limit=1):
        raise Invalid(f"output_path {output} is not empty (it holds {info.path.name}); choose an empty folder")


async def dataset_version(session: AsyncSession, project_id: str, version_id: str) -> tuple[Resource, ObjectPath]:
    """A published dataset version and its manifest. Raises Invalid when there is none such in the project."""
    resource = await session.get(Resource, version_id)
    if (
        resource is None
        or resource.deleted_at is not None
        or (resource.plugin, resource.kind, resource.project_id) != ("dataset", "version", project_id)
        or resource.workspace_id in closed_to_caller()
    ):
        raise Invalid(f"data.dataset_version_id: there is no dataset version '{version_id}' in this project")
    manifest = resource.properties.get("manifest_path")
    if not manifest:
        raise Invalid(f"dataset version '{resource.name}' has no manifest yet; wait until it is published")
    return resource, ObjectPath.parse(str(manifest), "manifest_path")


async def manifest_folders(store: ObjectStore, manifest: ObjectPath) -> tuple[ObjectPath, ...]:
    """The folders of the pictures a manifest names. Raises Invalid when it cannot serve here."""
    size = (await store.head(manifest)).size
    if size > _LARGEST_MANIFEST:
        raise Invalid(
            f"{manifest} has {size >> 20} MB; give a smaller version, or an .npz of the rows to calibrate with"
        )
    found: set[ObjectPath] = set()
    for number, line in enumerate((await store.get(manifest)).splitlines(), 1):
        try:
            source = orjson.loads(line)["source"] if line.strip() else "content://"
        except (ValueError, KeyError, TypeError) as e:
            raise Invalid(f"line {number} of {manifest} is not a sample with a source") from e
        if not source.startswith("content://"):
            path = ObjectPath.parse(source, f"source in line {number} of {manifest}")
            found.add(ObjectPath(path.bucket, path.key[: path.key.rfind("/") + 1]))
    if len(found) > _MOST_FOLDERS:
        raise Invalid(f"the pictures of {manifest} lie in {len(found)} folders; at most {_MOST_FOLDERS} are taken")
    return tuple(sorted(found, key=str))


def npz_path(text: str) -> ObjectPath:
    """Raises Invalid unless `text` is the path of an .npz object."""
    path = ObjectPath.parse(text, "data.path")
    if not path.name.endswith(".npz") or path.key.endswith("/"):
        raise Invalid(f"data.path {path} must be an .npz object with arrays x and, for the accuracy, y")
    return path


async def check_there(store: ObjectStore, data: Data) -> None:
    """Raises Invalid when the rows to calibrate with are not there."""
    try:
        await store.head(data.path)
    except NotFound:
        raise Invalid(f"data.path {data.path}: there is no such object") from None
