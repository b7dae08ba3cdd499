"""The first-party operators keep their contract, a stranger's short one does, and the contract finds who does not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.io import wavfile

from bottega.plugins import Plugins
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.processing.conformance import ProcessorContract
from bottega_dataset.processing.processors import AUDIO, IMAGE, TEXT, Processor, Processors
from bottega_dataset.sample import Annotation, SampleRecord

Given = Sequence[tuple[SampleRecord, bytes | None]]
LOCAL = ("the_same_seed_gives_the_same", "every_sample_is_accounted_for", "what_cannot_be_read_does_not_end_it")


def pictures() -> Given:
    made = []
    for n in range(10):
        image = Image.new("RGB", (48, 40), (120, 10 * n, 60))
        ImageDraw.Draw(image).rectangle((4 + n, 5, 20 + n, 25), fill=(250, 250, 20 * n))
        out = io.BytesIO()
        image.save(out, "PNG")
        label = [Annotation("image_classification", "ab"[n % 2], confidence=n / 10)]
        made.append((SampleRecord(f"s3://{{bucket}}/in/{n}.png", label), out.getvalue()))
    return made


def texts() -> Given:
    said = ["a sunny day in town", "rain over the whole country", "the price of bread has risen", "a goal in overtime"]
    return [
        (SampleRecord(f"content://{text}, number {n}", [Annotation("text_classification", "ab"[n % 2])]), None)
        for n, text in enumerate(said * 3)
    ]


def sounds() -> Given:
    made = []
    for n in range(10):
        at = np.arange(1600) / 8000
        out = io.BytesIO()
        wavfile.write(out, 8000, (9000 * np.sin(2 * np.pi * (200 + 90 * n) * at)).astype(np.int16))
        label = [Annotation("audio_classification", "ab"[n % 2])]
        made.append((SampleRecord(f"s3://{{bucket}}/in/{n}.wav", label), out.getvalue()))
    return made


MEDIA: dict[int, tuple[int, Given]] = {IMAGE: (0, pictures()), TEXT: (100, texts()), AUDIO: (200, sounds())}


class Contract(ProcessorContract):
    def __init__(self, operator: str, template: str, media: int) -> None:
        self.operator, self.template = operator, template
        self.code, self._samples = MEDIA[media]

    def samples(self) -> Given:
        return self._samples


# Collected by their names, the three that run as real tasks; `Contract` itself is made for each operator below.
Contract.__test__ = False  # type: ignore[attr-defined]


class TestImageFeatures(ProcessorContract):
    operator, template = "ImageFeatures", "sys_data_analyse"

    def samples(self) -> Given:
        return pictures()


class TestTextTypos(ProcessorContract):
    operator, template, code = "TextTypos", "sys_data_augmentation", 100

    def samples(self) -> Given:
        return texts()


def every(running: RunningPlatform) -> Iterator[tuple[Processor, str, int]]:
    processors = Processors.of_platform(running.platform("dataset"))
    for template in (
        "sys_data_analyse",
        "sys_data_cleaning",
        "sys_data_augmentation",
        "sys_data_validation",
        "sys_data_selection",
    ):
        for one in processors.of_template(template):
            for media in MEDIA:
                if one.fits(media):
                    yield one, template, media


def test_every_operator_keeps_its_contract(running: RunningPlatform, tmp_path: Path) -> None:
    """All that needs no real task, of each operator with each kind of samples it understands."""
    seen = 0
    for one, template, media in every(running):
        contract = Contract(one.id, template, media)
        contract.test_it_says_what_is_missing(running)
        done = contract.run(running, tmp_path / f"{one.id}-{template}-{media}", broken=True)
        contract._check_result(running, done, len(contract.samples()) + 2 * (media != TEXT))
        seen += 1
    assert seen >= 60


def test_every_operator_is_the_same_for_the_same_seed(running: RunningPlatform, tmp_path: Path) -> None:
    for one, template, media in every(running):
        if template != "sys_data_analyse" or one.id == "Duplicates":
            Contract(one.id, template, media).test_the_same_seed_gives_the_same(
                running, tmp_path / f"{one.id}{template}{media}"
            )


STRANGER = '''
from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import CLEANSING, IMAGE, Params, Processor


class RednessParams(Params):
    above: float = 100


class Redness(Processor):
    """Drops pictures that are too red."""

    id, name, description = "Redness", "Redness", "Drops pictures whose mean red is above a limit."
    templates, sample_types, params, needs = (CLEANSING,), frozenset({IMAGE}), RednessParams, ("PIL", "numpy")

    def process(self, work, params):
        import numpy as np

        from bottega_dataset.processing import images

        for item, image in work.read(images.decode):
            red = float(np.asarray(image.convert("RGB"))[..., 0].mean())
            if red > params.above:
                work.drop(item, f"too red: {red:.1f}", value=red)


class Silent(Redness):
    id = "SilentDropper"

    def process(self, work, params):
        work.drop(work.items[0], "")


class Chance(Redness):
    id = "Chance"

    def process(self, work, params):
        import random

        for item in work.items:
            work.note(item, f"drawn: {random.random()}")


class Brittle(Redness):
    id = "Brittle"

    def process(self, work, params):
        for item in work.items:
            list(work.read(lambda content: 1 / (len(content) > 40), [item]))


class Breaks(Redness):
    id = "Breaks"

    def process(self, work, params):
        from bottega_dataset.sample import Annotation

        work.change(work.items[0], "labels", annotations=[Annotation("image_classification", "no label!")])


class Heavy(Redness):
    id = "Heavy"

    def __init__(self):
        import numpy


@hookimpl
def bottega_dataset_processors():
    return [Redness(), Silent(), Chance(), Brittle(), Breaks(), Heavy()]
'''


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with a stranger's plugin: one operator as it should be, and some that break one rule each."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "strange_processors.py").write_text(STRANGER)
    wanted = ("dataset", "store-s3", "backend-local", "types-image")
    found = [point for point in entry_points(group="bottega") if point.name in wanted]
    found.append(EntryPoint("strange-processors", "strange_processors", "bottega"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with RunningPlatform(folder / "data", plugins=lambda settings: Plugins(settings, found)) as running:
            assert running.runtime.plugins.all["strange-processors"].state == "on"
            yield running
    del sys.modules["strange_processors"]


def of_stranger(operator: str) -> Contract:
    return Contract(operator, "sys_data_cleaning", IMAGE)


def test_a_strangers_operator_keeps_the_contract(strange: RunningPlatform, tmp_path: Path) -> None:
    contract, tenant = of_stranger("Redness"), strange.tenant()
    contract.test_it_describes_itself(strange, tenant)
    contract.test_what_is_heavy_comes_late(strange)
    contract.test_an_unknown_parameter_is_refused(tenant, tenant.create_bucket())
    for test in LOCAL:
        getattr(contract, f"test_{test}")(strange, tmp_path / test)


@pytest.mark.parametrize(
    ("operator", "test", "found"),
    [
        ("SilentDropper", "every_sample_is_accounted_for", "a reason says something"),
        ("Chance", "the_same_seed_gives_the_same", "differ from run to run"),
        ("Brittle", "what_cannot_be_read_does_not_end_it", "division by zero"),
        ("Breaks", "every_sample_is_accounted_for", "no label!"),
    ],
)
def test_a_wrong_operator_is_found(
    strange: RunningPlatform, tmp_path: Path, operator: str, test: str, found: str
) -> None:
    with pytest.raises(Exception, match=found):
        getattr(of_stranger(operator), f"test_{test}")(strange, tmp_path)


def test_an_operator_that_imports_at_once_is_found(strange: RunningPlatform) -> None:
    with pytest.raises(AssertionError, match="before there is something to process"):
        of_stranger("Heavy").test_what_is_heavy_comes_late(strange)


def test_operators_of_a_plugin_that_is_off_are_not_offered(strange: RunningPlatform) -> None:
    tenant: Tenant = strange.tenant()
    items: list[dict[str, Any]] = tenant.client.get("/v2/{project_id}/processor-tasks/items")["items"]
    assert {one["id"] for item in items for one in item["operators"]} == {
        "Redness",
        "SilentDropper",
        "Chance",
        "Brittle",
        "Breaks",
        "Heavy",
    }
