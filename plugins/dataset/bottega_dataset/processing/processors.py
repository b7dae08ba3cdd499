"""What a processor (the vendor's *operator*) is: what users see of it, and the work, which only the worker calls.

A processing task names a template (`TEMPLATES`, the vendor's task types) and operators of it with their parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bottega.errors import Invalid, PluginError

if TYPE_CHECKING:
    from bottega.platform import Platform
    from bottega_dataset.extension_points import DatasetType
    from bottega_dataset.processing.work import Work

IMAGE, TEXT, AUDIO = 0, 1, 2
"""The API's ``sample_type``."""
ANALYSIS, CLEANSING, AUGMENTATION, VALIDATION, SELECTION = (
    "sys_data_analyse",
    "sys_data_cleaning",
    "sys_data_augmentation",
    "sys_data_validation",
    "sys_data_selection",
)


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of task. `makes_samples` is False where the result is a report about the samples, not samples."""

    id: str
    label_en: str
    label_zh: str
    makes_samples: bool = True


TEMPLATES: Mapping[str, Template] = {
    one.id: one
    for one in (
        Template(ANALYSIS, "Feature analysis", "特征分析", makes_samples=False),
        Template(CLEANSING, "Data cleansing", "数据清洗"),
        Template(AUGMENTATION, "Data augmentation", "数据增强"),
        Template(VALIDATION, "Data validation", "数据校验"),
        Template(SELECTION, "Data selection", "数据选择"),
    )
}


class ProcessingFailure(Exception):
    """The task cannot go on; the message is the reason the user reads."""


class Params(BaseModel):
    """Base of the parameters of a processor: typed, and an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Processor(ABC):
    """One operator. Subclasses need a constructor without arguments, and import what is heavy only in `process`.

    `templates` are those it may be used in, `sample_types` the media it understands (None: every one). A `default`
    one is used when a task names no operator. `needs` are packages that must be installed where the worker runs.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    description: ClassVar[str]
    templates: ClassVar[tuple[str, ...]]
    sample_types: ClassVar[frozenset[int] | None] = None
    params: ClassVar[type[Params]] = Params
    needs: ClassVar[tuple[str, ...]] = ()
    default: ClassVar[bool] = False

    @abstractmethod
    def process(self, work: Work, params: Any) -> None:
        """Look at the samples of `work` and say of each that shall not stay as it is what becomes of it.

        `params` is an instance of the class attribute. The same samples, parameters and seed give the same result.
        Raises ProcessingFailure where the samples as a whole cannot serve; anything else counts as one, too.
        """

    def missing(self) -> str | None:
        """Why it cannot work here; None when it can."""
        absent = [name for name in self.needs if find_spec(name) is None]
        return f"not installed: {', '.join(absent)} (pip install 'bottega[labeling]')" if absent else None

    def fits(self, sample_type: int) -> bool:
        return self.sample_types is None or sample_type in self.sample_types

    def read_params(self, given: Mapping[str, Any]) -> Params:
        """Raises Invalid naming each parameter that is wrong and those there are."""
        try:
            return self.params.model_validate(dict(given))
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:5])
            known = ", ".join(f"{n} (default {f.get_default()!r})" for n, f in self.params.model_fields.items())
            raise Invalid(f"params of operator '{self.id}': {problems}; its parameters are: {known or 'none'}") from e

    def describe(self) -> dict[str, Any]:
        """The operator as the API shows it."""
        reason = self.missing()
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "template_ids": list(self.templates),
            "sample_types": sorted(self.sample_types) if self.sample_types is not None else None,
            "default": self.default,
            "params": self.params.model_json_schema().get("properties", {}),
            "available": reason is None,
            "reason": reason or "",
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a task with its parameters, read and found right."""

    processor: Processor
    params: Params


class Processors:
    """The processors that the plugins of this installation bring."""

    def __init__(self, processors: Iterable[Processor]) -> None:
        self._all: dict[str, Processor] = {}
        for one in processors:
            if one.id in self._all:
                raise PluginError(f"two plugins bring the operator '{one.id}'")
            strange = [template for template in one.templates if template not in TEMPLATES]
            if strange or not one.templates:
                raise PluginError(
                    f"operator '{one.id}' is for template '{strange[0] if strange else ''}'; there is none"
                )
            self._all[one.id] = one

    @classmethod
    def of_platform(cls, platform: Platform) -> Processors:
        return cls(one for some in platform.extensions("bottega_dataset_processors") for one in some)

    def of_template(self, template_id: str) -> list[Processor]:
        return [one for one in self._all.values() if template_id in one.templates]

    def steps(self, template_id: str, wanted: Sequence[Mapping[str, Any]], kind: DatasetType) -> list[Step]:
        """What a task does, in order. Raises Invalid, saying what is wrong and what would be right.

        :param wanted: the API's ``operator_params``; none of them: the default operators.
        """
        if template_id not in TEMPLATES:
            raise Invalid(f"there is no template '{template_id}'; there are: {', '.join(TEMPLATES)}")
        offered = [one for one in self.of_template(template_id) if one.fits(kind.sample_type)]
        names = ", ".join(one.id for one in offered) or "none"
        if not wanted:
            found = [one for one in offered if one.default and one.missing() is None]
            if not found:
                raise Invalid(f"template.operator_params names no operator; for {kind.name} there are: {names}")
            return [Step(one, one.read_params({})) for one in found]
        return [self._step(one, offered, names, template_id, kind) for one in wanted]

    def _step(
        self, wanted: Mapping[str, Any], offered: list[Processor], names: str, template_id: str, kind: DatasetType
    ) -> Step:
        name = wanted.get("id") or wanted.get("name")
        found = next((one for one in offered if one.id == name), None)
        if found is None:
            known = self._all.get(str(name))
            why = "there is no such operator"
            if known is not None:
                fits = known.fits(kind.sample_type)
                why = f"it is for {', '.join(known.templates)}" if fits else f"it does not understand {kind.name}"
            raise Invalid(f"operator '{name}': {why}; {template_id} of {kind.name} has: {names}")
        reason = found.missing()
        if reason:
            raise Invalid(f"operator '{found.id}' is not available here: {reason}")
        return Step(found, found.read_params(wanted.get("params") or {}))
