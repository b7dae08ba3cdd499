"""What a conversion means before there is a task: its paths read, its machine, the permissions of its whole life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bottega.errors import Invalid
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Use
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_conversion import folders
from bottega_conversion.converters import Converter

if TYPE_CHECKING:
    from bottega_conversion.requests import ConversionRequest

KIND = "task"
CREATE, GET, STOP = "modelarts:convert:create", "modelarts:convert:get", "modelarts:convert:stop"


@dataclass(frozen=True)
class Foreseen:
    """A request whose names and paths have been read; nobody has looked yet whether the objects are there."""

    converter: Converter
    options: BaseModel
    flavor: str
    input: ObjectPath
    output: ObjectPath
    data: folders.Data | None
    needs: tuple[Need, ...]


class ConversionPlanner:
    def __init__(self, platform: Platform, converters: Sequence[Converter]) -> None:
        self._platform = platform
        self._converters = {c.id: c for c in converters}

    @property
    def templates(self) -> list[Converter]:
        return sorted(self._converters.values(), key=lambda c: c.id)

    async def plan(self, caller: Caller, body: ConversionRequest) -> Plan:
        """Raises Invalid as the creation would."""
        foreseen = await self.foresee(caller, body)
        return Plan((Use("conversion", foreseen.flavor),), foreseen.needs, body.workspace_id)

    async def foresee(self, caller: Caller, body: ConversionRequest) -> Foreseen:
        """Raises Invalid saying what is wrong and what would be right."""
        converter = self._template(body.template_id)
        options = converter.read_options(body.options)
        flavor = self._flavor(body.flavor)
        source = ObjectPath.parse(body.input_path, "input_path")
        output = ObjectPath.parse(body.output_path, "output_path").folder
        mine = str(Urn("conversion", caller.project_id, KIND, "*"))
        needs = [
            Need(CREATE, f"bottega:conversion:{caller.project_id}:*", "the task is created"),
            Need(GET, mine, "the task, its report and its log are followed"),
            Need(STOP, mine, "the task is stopped when it shall cost no more"),
            *Need.path(source, "the model is read from input_path"),
            *Need.path(output, "the result and the log are written to output_path", write=True),
        ]
        data = await self._data(caller, body, needs)
        if data is None and converter.minimum_calibration_rows:
            raise Invalid(
                f"template '{converter.id}' calibrates on at least {converter.minimum_calibration_rows} rows: "
                "give data.dataset_version_id or data.path (.npz)"
            )
        return Foreseen(converter, options, flavor, source, output, data, tuple(needs))

    def _template(self, template_id: str) -> Converter:
        """Raises Invalid, naming those there are, for one that is not installed or cannot work here."""
        found = self._converters.get(template_id)
        if found is None:
            raise Invalid(f"there is no template '{template_id}'; there are: {', '.join(self._converters) or 'none'}")
        reason = found.missing()
        if reason:
            raise Invalid(f"template '{template_id}' is not available here: {reason}")
        return found

    def _flavor(self, asked: str | None) -> str:
        offered = self._platform.workloads.flavors("conversion")
        default: Any = self._platform.settings.default_flavor
        wanted = asked or default or (offered[0].id if offered else "")
        return self._platform.workloads.flavor(wanted, "conversion").id

    async def _data(self, caller: Caller, body: ConversionRequest, needs: list[Need]) -> folders.Data | None:
        """What to calibrate and compare with; the permissions to read it are added to `needs`."""
        wanted = body.data
        if wanted.path and wanted.dataset_version_id:
            raise Invalid("data: give dataset_version_id or path, not both")
        if wanted.path:
            path = folders.npz_path(wanted.path)
            needs += Need.path(path, "the rows are read from data.path")
            return folders.Data("npz", path)
        if not wanted.dataset_version_id:
            return None
        async with self._platform.database.read() as session:
            version, manifest = await folders.dataset_version(session, caller.project_id, wanted.dataset_version_id)
        read = Need.path(manifest, "the manifest of the dataset version is read")
        needs += read
        if not (await caller.has(read[0])).allowed:
            return folders.Data("manifest", manifest, (), version.urn)  # what it names is not for this caller to know
        named = await folders.manifest_folders(self._platform.objects, manifest)
        for folder in named:
            needs += Need.path(folder, "the samples of the dataset version are read")
        return folders.Data("manifest", manifest, named, version.urn)
