"""Models: packages checked and copied at import, so that a version stays what it was (002 §6.3, §12)."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.entities import DEFAULT_WORKSPACE, LineageEdge, Resource
from bottega.errors import ApiError, Conflict, Invalid, NotFound, Unavailable
from bottega.events import Received
from bottega.objects import ObjectInfo, ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega.workspaces import closed_to_caller
from bottega_serving.entities import Deployment, Model, Service
from bottega_serving.events import ModelDeleted, ModelFailed, ModelPublished, ModelSubmitted
from bottega_serving.package import CONFIG, ModelConfig, check_config, check_layout, parse_config
from bottega_serving.runtimes import Runtimes

log = structlog.get_logger("bottega.serving.models")

# 1-48 visible characters, beginning with a letter (Chinese included): table 6-1.
_NAME = re.compile(r"[A-Za-z\u4e00-\u9fff][A-Za-z0-9\u4e00-\u9fff_-]{0,47}")
_VERSION = re.compile(r"(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is to become a model. `config` completes or replaces fields of the package's ``config.json``."""

    name: str
    version: str
    model_type: str | None
    source: ObjectPath
    source_job_id: str | None = None
    source_job_version: str | None = None
    description: str = ""
    workspace_id: str = DEFAULT_WORKSPACE
    docs: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


def model_urn(model: Model) -> str:
    return str(Urn("serving", model.project_id, "model", model.id))


class Models:
    def __init__(self, platform: Platform, runtimes: Runtimes) -> None:
        self._platform = platform
        self._runtimes = runtimes

    async def source_of_job(self, project_id: str, job_id: str) -> ObjectPath:
        """The output folder of a training job, from the core registry.

        Raises NotFound, or Invalid for a job that left no output folder.
        """
        async with self._platform.database.read() as session:
            job = await session.get(Resource, job_id)
        if (
            job is None
            or (job.plugin, job.kind, job.project_id) != ("training", "job", project_id)
            or job.workspace_id in closed_to_caller()
        ):
            raise NotFound(f"there is no training job '{job_id}' in this project")
        output = job.properties.get("train_url")
        if not output:
            raise Invalid(f"training job '{job.name}' has no output folder; give source_location instead")
        return ObjectPath.parse(str(output), "train_url")

    async def submit(self, request: ImportRequest, project_id: str, account_id: str, owner_id: str) -> Model:
        """Check the package and register the model; its files are copied after the commit.

        Raises Invalid that names each mistake of the package, Conflict when this name and version exist.
        """
        check_name(request.name, request.version)
        folder, files = await self._package(request.source)
        config = await self._config(folder, request)
        names = [_relative(info.path, folder) for info in files]
        self._runtimes.check_files(config["model_type"], names)
        model = Model(
            id=new_id(),
            project_id=project_id,
            workspace_id=request.workspace_id,
            account_id=account_id,
            owner_id=owner_id,
            name=request.name,
            version=request.version,
            model_type=config["model_type"],
            description=request.description,
            status="publishing",
            source_location=str(folder),
            source_job_id=request.source_job_id,
            source_job_version=request.source_job_version,
            location="",
            config=config,
            docs=request.docs,
            files=[{"path": f"model/{n}", "size": i.size, "etag": i.etag} for n, i in zip(names, files, strict=True)],
            size=sum(info.size for info in files),
        )
        model.location = str(ObjectPath(folder.bucket, f".bottega/models/{model.id}/"))
        async with self._platform.database.transaction() as tx:
            resource = await self._platform.resources.create(
                tx,
                kind="model",
                project_id=project_id,
                owner_id=owner_id,
                name=f"{request.name} {request.version}",
                status=model.status,
                workspace_id=request.workspace_id,
                description=request.description,
                properties={"version": request.version, "model_type": model.model_type, "location": model.location},
                unique_name=False,
                id=model.id,
            )
            tx.session.add(model)
            try:
                await tx.session.flush()
            except IntegrityError as e:
                raise Conflict(
                    f"model '{model.name}' has a version {model.version} already; choose another version"
                ) from e
            for origin in await self._origins(tx.session, model):
                await self._platform.resources.link(tx, origin, resource.urn, "imported from")
            tx.emit(ModelSubmitted(model_id=model.id), resource.urn)
        return model

    async def _origins(self, session: AsyncSession, model: Model) -> Sequence[str]:
        """Where the lineage of a model begins: its training job, or who wrote the folder it lies in, or the folder."""
        if model.source_job_id:
            return [str(Urn("training", model.project_id, "job", model.source_job_id))]
        path = ObjectPath.parse(model.source_location)
        steps = path.key.rstrip("/").split("/")
        above = [f"s3://{path.bucket}/{'/'.join(steps[:n])}" for n in range(1, len(steps) + 1)]
        known = col(LineageEdge.target).in_([*above, *(f"{folder}/" for folder in above)])
        return sorted(set((await session.exec(select(LineageEdge.target).where(known))).all())) or [str(path)]

    async def copy(self, received: Received[ModelSubmitted]) -> None:
        """Copy a model's files to a place of their own; again from the start when it was broken off."""
        async with self._platform.database.read() as session:
            model = await session.get(Model, received.event.model_id)
        if model is None or model.status != "publishing":
            return
        reason = ""
        files: list[dict[str, Any]] = []
        try:
            files = [await self._copy_file(model, file) for file in model.files]
        except Unavailable:
            raise  # the bus tries again
        except ApiError as problem:
            reason = problem.message
        async with self._platform.database.transaction() as tx:
            model = await tx.session.get(Model, model.id, with_for_update=True)
            if model is None or model.status != "publishing":
                return
            await self._settle(tx, model, files, reason)

    async def _copy_file(self, model: Model, file: dict[str, Any]) -> dict[str, Any]:
        source = ObjectPath.parse(model.source_location) / file["path"].removeprefix("model/")
        target = ObjectPath.parse(model.location) / file["path"]
        store = self._platform.objects
        info = await store.head(source)
        if info.etag != file["etag"]:
            raise Invalid(f"{source} changed while it was imported; import it again")
        with tempfile.TemporaryDirectory(prefix="bottega-model-") as scratch:
            local = Path(scratch) / "file"
            await store.download(source, local)
            with local.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            await store.upload(local, target)
        return {**file, "sha256": digest}

    async def _settle(self, tx: Transaction, model: Model, files: list[dict[str, Any]], reason: str) -> None:
        resource = await self._platform.resources.get(tx.session, "model", model.project_id, model.id)
        model.status = "failed" if reason else "published"
        model.error_msg = reason
        if not reason:
            model.files = files
        tx.session.add(model)
        await self._platform.resources.set_status(tx, resource, model.status)
        if reason:
            tx.emit(ModelFailed(model_id=model.id, reason=reason), resource.urn)
            return
        tx.emit(
            ModelPublished(
                model_id=model.id,
                name=model.name,
                version=model.version,
                model_type=model.model_type,
                source_job_id=model.source_job_id,
                size=model.size,
            ),
            resource.urn,
        )

    async def page(
        self,
        project_id: str,
        *,
        name: str | None = None,
        exact: bool = False,
        version: str | None = None,
        status: str | None = None,
        description: str | None = None,
        model_type: str | None = None,
        not_model_type: str | None = None,
        workspace_id: str | None = None,
        sort_by: str = "create_at",
        ascending: bool = False,
        offset: int = 0,
        limit: int = 1000,
    ) -> tuple[int, Sequence[Model]]:
        """One page and the number of all matches."""
        found: list[Any] = [Model.project_id == project_id, self._platform.resources.visible(Model.workspace_id)]
        if name:
            found.append(col(Model.name) == name if exact else col(Model.name).contains(name, autoescape=True))
        if description:
            found.append(col(Model.description).contains(description, autoescape=True))
        for column, wanted in (
            (Model.version, version),
            (Model.status, status),
            (Model.model_type, model_type),
            (Model.workspace_id, workspace_id),
        ):
            if wanted:
                found.append(col(column) == wanted)
        if not_model_type:
            found.append(col(Model.model_type) != not_model_type)
        keys = {"create_at": Model.created_at, "model_version": Model.version, "model_size": Model.size}
        key = col(keys.get(sort_by, Model.created_at))
        order = (key.asc(), col(Model.id).asc()) if ascending else (key.desc(), col(Model.id).desc())
        async with self._platform.database.read() as session:
            ids = (await session.exec(select(Model.id).where(*found))).all()
            rows = await session.exec(select(Model).where(*found).order_by(*order).offset(offset).limit(limit))
            return len(ids), rows.all()

    async def get(self, session: AsyncSession, project_id: str, model_id: str) -> Model:
        """Raises NotFound when it is not there or belongs to another project."""
        model = await session.get(Model, model_id)
        if model is None or model.project_id != project_id or model.workspace_id in closed_to_caller():
            raise NotFound(f"there is no model '{model_id}' in this project")
        return model

    async def delete(self, project_id: str, model_id: str, *, cascade: bool) -> tuple[list[str], dict[str, ApiError]]:
        """Delete a version, or with `cascade` all versions of its name. Returns those gone and those that could not go.

        Raises NotFound; Conflict when a service uses the only one asked for.
        """
        gone: list[str] = []
        kept: dict[str, ApiError] = {}
        async with self._platform.database.transaction() as tx:
            model = await self.get(tx.session, project_id, model_id)
            chosen: Sequence[Model] = [model]
            if cascade:
                query = select(Model).where(Model.project_id == project_id, Model.name == model.name)
                chosen = (await tx.session.exec(query)).all()
            for one in chosen:
                users = await self._services_of(tx.session, one.id)
                if users:
                    kept[one.id] = Conflict(
                        f"model {one.name} {one.version} is used by {', '.join(users)}; delete these first"
                    )
                    continue
                await self._delete(tx, one)
                gone.append(one.id)
        if not gone:
            raise kept[model_id]
        return gone, kept

    async def _services_of(self, session: AsyncSession, model_id: str) -> Sequence[str]:
        query = select(Service.name).join(Deployment, col(Deployment.service_id) == Service.id)
        return (await session.exec(query.where(Deployment.model_id == model_id))).all()

    async def _delete(self, tx: Transaction, model: Model) -> None:
        resource = await self._platform.resources.get(tx.session, "model", model.project_id, model.id)
        await self._platform.resources.delete(tx, resource)
        await tx.session.delete(model)
        tx.emit(ModelDeleted(model_id=model.id, location=model.location), resource.urn)

    async def remove_files(self, received: Received[ModelDeleted]) -> None:
        """Delete the copy of a model that is gone; a second time finds nothing."""
        store = self._platform.objects
        folder = ObjectPath.parse(received.event.location)
        await store.delete([info.path async for info in store.list(folder)])

    async def _package(self, source: ObjectPath) -> tuple[ObjectPath, list[ObjectInfo]]:
        """The ``model/`` folder in `source` (or `source` itself, when that is its name) and its files."""
        settings = self._platform.settings
        folder = source.folder if source.name == "model" else source.folder / "model/"
        listing = self._platform.objects.list(folder, limit=settings.max_package_files + 1)
        files = [info async for info in listing if not info.path.key.endswith("/")]
        if len(files) > settings.max_package_files:
            raise Invalid(f"{folder} holds more than {settings.max_package_files} files")
        size = sum(info.size for info in files)
        if size > settings.max_package_mb << 20:
            raise Invalid(f"{folder} holds {size >> 20} MB; a package may have {settings.max_package_mb} MB")
        check_layout([_relative(info.path, folder) for info in files], str(source))
        return folder, files

    async def _config(self, folder: ObjectPath, request: ImportRequest) -> dict[str, Any]:
        written = parse_config(await self._platform.objects.get(folder / CONFIG))
        config = {**written.model_dump(mode="json", by_alias=True, exclude_unset=True), **request.config}
        checked: ModelConfig = check_config(config)
        if request.model_type and request.model_type != checked.model_type:
            raise Invalid(f"model_type is {request.model_type}, but {CONFIG} says {checked.model_type}")
        return checked.model_dump(mode="json", by_alias=True, exclude_unset=True)


def check_name(name: str, version: str) -> None:
    """Raises Invalid for a name or version that breaks the rules of table 6-1."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"model_name '{name[:60]}' must begin with a letter, Chinese or Latin, and have "
            "1 to 48 letters, digits, '-' or '_'"
        )
    if not _VERSION.fullmatch(version):
        raise Invalid(f"model_version '{version[:20]}' must be x.y.z, each of one or two digits without a leading 0")


def _relative(path: ObjectPath, folder: ObjectPath) -> str:
    return path.key[len(folder.key) :]
