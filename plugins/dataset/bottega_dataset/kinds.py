"""The dataset types and importers that the plugins of this installation bring."""

from __future__ import annotations

from collections.abc import Iterable

from bottega.errors import Invalid, PluginError
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.extension_points import DatasetType, Importer


class Kinds:
    def __init__(self, types: Iterable[DatasetType], importers: Iterable[Importer]) -> None:
        self.types: dict[int, DatasetType] = {}
        for kind in types:
            if kind.code in self.types:
                raise PluginError(
                    f"two plugins bring dataset_type {kind.code}: {self.types[kind.code].name}, {kind.name}"
                )
            self.types[kind.code] = kind
        self._importers = list(importers)

    @classmethod
    def of_platform(cls, platform: Platform) -> Kinds:
        types = [kind for some in platform.extensions("bottega_dataset_types") for kind in some]
        return cls(types, [one for some in platform.extensions("bottega_dataset_importers") for one in some])

    def of(self, code: int) -> DatasetType:
        """Raises Invalid for a type nobody brings."""
        if code not in self.types:
            offered = ", ".join(f"{kind.code} ({kind.name})" for kind in self.types.values())
            raise Invalid(f"dataset_type {code} is not offered here; there are {offered}")
        return self.types[code]

    def importer(self, import_type: str, code: int) -> Importer:
        """Raises Invalid when nothing imports this into datasets of the type."""
        fitting = [one for one in self._importers if one.dataset_types is None or code in one.dataset_types]
        for importer in fitting:
            if importer.import_type == import_type:
                return importer
        offered = ", ".join(sorted({one.import_type for one in fitting})) or "none"
        raise Invalid(f"import_type '{import_type}' does not fit {self.of(code).name} datasets; those take: {offered}")

    @staticmethod
    def urn(project_id: str, dataset_id: str) -> str:
        return str(Urn("dataset", project_id, "dataset", dataset_id))
