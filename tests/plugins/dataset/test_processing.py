"""Processing tasks through the API, with real workers over real objects."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from bottega.testing import RecordedEvents, Tenant, wait_until
from bottega_dataset.client import Datasets

TASKS = "/v2/{project_id}/processor-tasks"


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def drawn(seed: int, size: tuple[int, int] = (96, 64), shade: int = 128) -> Image.Image:
    """Sharp rectangles on an even ground, others for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (shade,) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, width, height = (int(n) for n in rng.integers((0, 0, 8, 8), (size[0] - 24, size[1] - 24, 24, 24)))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.rectangle((x, y, x + width, y + height), fill=color)
    return image


def finish(tenant: Tenant, task_id: str, version_id: str | None = None) -> dict[str, Any]:
    path = f"{TASKS}/{task_id}" + (f"/versions/{version_id}" if version_id else "")

    def ended() -> dict[str, Any] | None:
        shown: dict[str, Any] = tenant.client.get(path)
        return shown if shown["status"] > 1 else None

    found = wait_until(ended, 120)
    assert found is not None
    return found


def test_a_dataset_is_analysed(
    tenant: Tenant, bucket: str, make: Callable[..., str], datasets: Datasets, events: RecordedEvents
) -> None:
    folder = f"s3://{bucket}/pictures/"
    files = {f"{folder}cat/{n}.png": png(drawn(n)) for n in range(6)}
    files |= {f"{folder}dog/{n}.png": png(drawn(10 + n, (64, 64), 40)) for n in range(2)}
    files[f"{folder}dog/again.png"] = files[f"{folder}cat/0.png"]
    files[f"{folder}dog/broken.png"] = files[f"{folder}cat/1.png"][:200]
    tenant.objects.put_many(files)
    make("animals", data_path=folder)
    dataset_id = datasets.get("animals")["dataset_id"]
    source = {"type": "DATASET", "source": dataset_id}
    task_id = tenant.client.post(
        TASKS, {"name": "look", "template": {"id": "sys_data_analyse"}, "data_source": source}
    )["task_id"]
    task = finish(tenant, task_id)
    assert task["status"] == 2, task
    result = task["result"]
    assert result["class_balance"]["counts"] == {"cat": 6, "dog": 4}
