"""What types measure of their samples, as docs/datasets.md lists it, and the statistics made of that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bottega.testing import Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.manifest import parse_line
from bottega_dataset.types import audio, image, text, video

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r'^```json title="(\w+)"\n(.*?)\n```$', PAGE, re.MULTILINE | re.DOTALL))
TYPES: dict[str, DatasetType] = {
    one.name: one for plugin in (audio, image, text, video) for one in plugin.bottega_dataset_types()
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("object_detection", {"shapes": 1, "shape_area": 100.5 * 200 / (640 * 480)}),
        ("image_segmentation", {"areas": 2}),
        ("named_entity", {"characters": 65, "entities": 2}),
        ("text_triplet", {"characters": 20, "entities": 2, "relations": 1}),
        ("audio_content", {"characters": 20, "words": 5}),
        ("audio_segmentation", {"stretches": 2, "seconds": 6.724}),
        ("video", {"intervals": 1, "seconds": 1.5, "frames": 1}),
        ("image_classification", {}),
    ],
)
def test_the_examples_of_the_page(name: str, expected: dict[str, float]) -> None:
    record = parse_line(EXAMPLES[name].encode())
    assert TYPES[name].measures(record) == pytest.approx(expected)
    assert all(f"`{measure}`" in PAGE for measure in expected)


@pytest.mark.parametrize(
    ("shape", "feature", "part"),
    [
        ("circle", [[50, 50], [10]], 0.04),
        ("polygon", [[0, 0], [50, 0], [0, 20]], 0.1),
        ("point", [[3, 3]], 0),
    ],
)
def test_the_box_around_a_shape(shape: str, feature: list[list[int]], part: float) -> None:
    said = {
        "type": "object_detection",
        "name": "x",
        "property": {"@modelarts:shape": shape, "@modelarts:feature": feature},
    }
    line = {"source": "s3://pets/a.jpg", "property": {"@modelarts:size": [100, 100, 3]}, "annotation": [said]}
    assert image.ObjectDetection().measures(parse_line(json.dumps(line).encode()))["shape_area"] == pytest.approx(part)


def test_they_are_in_the_statistics(tenant: Tenant, datasets: Datasets, bucket: str, make: Callable[..., str]) -> None:
    lines = [EXAMPLES["named_entity"], json.dumps({"source": "content://nothing was said of it"})]
    tenant.objects.put(f"s3://{bucket}/a.manifest", "\n".join(lines).encode())
    make("named", dataset_type=101)
    datasets.import_from("named", f"s3://{bucket}/a.manifest", import_type="manifest")
    stats = datasets.statistics("named")["measure_stats"]
    assert stats["entities"] == {"count": 1, "min": 2, "max": 2, "mean": 2}
    assert stats["characters"]["max"] == 65
