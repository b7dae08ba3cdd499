"""The dataset types, importers, exporters and learners that the plugins of this installation bring."""

from __future__ import annotations

from collections.abc import Iterable

from bottega.errors import Invalid, PluginError
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.extension_points import DatasetType, Exporter, Importer
from bottega_dataset.learner import Learner


class Kinds:
    def __init__(
        self,
        types: Iterable[DatasetType],
        importers: Iterable[Importer],
        exporters: Iterable[Exporter] = (),
        learners: Iterable[Learner] = (),
    ) -> None:
        self.types: dict[int, DatasetType] = {}
        for kind in types:
            if kind.code in self.types:
                raise PluginError(
                    f"two plugins bring dataset_type {kind.code}: {self.types[kind.code].name}, {kind.name}"
                )
            self.types[kind.code] = kind
        self._importers = list(importers)
        self._exporters = list(exporters)
        self._learners = list(learners)

    @classmethod
    def of_platform(cls, platform: Platform) -> Kinds:
        types, importers, exporters, learners = (
            [one for some in platform.extensions(f"bottega_dataset_{what}") for one in some]
            for what in ("types", "importers", "exporters", "learners")
        )
        return cls(types, importers, exporters, learners)

    def of(self, code: int) -> DatasetType:
        """Raises Invalid for a type nobody brings."""
        if code not in self.types:
            offered = ", ".join(f"{kind.code} ({kind.name})" for kind in self.types.values())
            raise Invalid(f"dataset_type {code} is not offered here; there are {offered}")
        return self.types[code]

    def importer(self, import_type: str, code: int) -> Importer:
        """Raises Invalid when nothing imports this into datasets of the type."""
        fitting = [one for one in self._importers if one.dataset_types is None or code in one.dataset_types]
        # Who names the type goes before who takes every one.
        for importer in sorted(fitting, key=lambda one: one.dataset_types is None):
            if importer.import_type == import_type:
                return importer
        offered = ", ".join(self.import_types(code)) or "none"
        raise Invalid(f"import_type '{import_type}' does not fit {self.of(code).name} datasets; those take: {offered}")

    def import_types(self, code: int) -> list[str]:
        """What a request may name to import into datasets of the type."""
        fitting = [one for one in self._importers if one.dataset_types is None or code in one.dataset_types]
        return sorted({one.import_type for one in fitting})

    def exporter(self, export_format: str, code: int) -> Exporter:
        """Raises Invalid when nothing exports datasets of the type to this format."""
        fitting = [one for one in self._exporters if one.dataset_types is None or code in one.dataset_types]
        for exporter in fitting:
            if exporter.export_format == export_format:
                return exporter
        offered = ", ".join(sorted({"manifest", *(one.export_format for one in fitting)}))
        raise Invalid(f"{self.of(code).name} datasets are not exported as '{export_format}', but as: {offered}")

    def learners(self, code: int) -> list[Learner]:
        """Those that learn from datasets of the type."""
        return [one for one in self._learners if code in one.dataset_types]

    @staticmethod
    def urn(project_id: str, dataset_id: str) -> str:
        return str(Urn("dataset", project_id, "dataset", dataset_id))
