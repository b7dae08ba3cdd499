"""Rows for calibration and comparison: from an ``.npz`` object, or from the pictures a dataset version names."""

from __future__ import annotations

import io
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from bottega.objects import ObjectPath
from bottega_conversion.converters import ConversionFailure
from bottega_conversion.model_config import ImageInput, ModelConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PARALLEL = 16
_EVALUATION_ROWS = 2000
_TRIES = 3
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_HELD_OUT = ("EVAL", "TEST")


@dataclass(frozen=True)
class Samples:
    """`calibration` and `evaluation` rows; `labels` of the latter, where all of them have one."""

    calibration: NDArray[np.float32]
    evaluation: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    origin: str


def from_npz(file: Path, calibration_rows: int) -> Samples:
    """Rows ``x`` of shape (n, …) and, if there, class indexes ``y`` of shape (n,)."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if "x" not in archive:
                raise ConversionFailure(
                    f"the .npz holds {', '.join(archive.files) or 'nothing'}; it must hold an array 'x'"
                )
            x = archive["x"].astype(np.float32)
            y = archive.get("y")
    except (OSError, ValueError) as e:
        raise ConversionFailure(f"the data is not an .npz archive of plain arrays: {e}") from e
    if x.ndim < 2 or not len(x):
        raise ConversionFailure(f"'x' of the .npz must hold rows; its shape is {x.shape}")
    if y is not None and (y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer)):
        raise ConversionFailure(
            f"'y' of the .npz must hold one class index per row; it is {y.dtype} of shape {y.shape}"
        )
    order = np.random.default_rng(0).permutation(len(x))
    chosen = order[:_EVALUATION_ROWS]
    return Samples(x[order[:calibration_rows]], x[chosen], None if y is None else y[chosen].astype(np.int64), "npz")


def from_manifest(file: Path, config: ModelConfig, calibration_rows: int) -> Samples:
    """Pictures of a dataset version (002 §2.3.2), a random choice that is the same every time.

    Calibration takes those not held out (usage TRAIN or none), evaluation those of usage EVAL or TEST that have a
    label the model knows; a version that holds none out is evaluated on what there is.
    """
    spec = config.image
    if spec is None:
        raise ConversionFailure(
            "the dataset holds pictures; config.json must say under bottega.images how they become rows"
        )
    classes = {name: index for index, name in enumerate(config.bottega.labels)}
    entries = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    pictures = [e for e in entries if not str(e.get("source", "")).startswith("content://")]
    if not pictures:
        raise ConversionFailure("the dataset version holds no pictures")
    random.Random(0).shuffle(pictures)  # noqa: S311  # a choice that can be repeated, no secret
    held_out = [e for e in pictures if e.get("usage") in _HELD_OUT]
    calibration = [e for e in pictures if e.get("usage") not in _HELD_OUT][:calibration_rows] or pictures[
        :calibration_rows
    ]
    pool = held_out or pictures
    labeled = [e for e in pool if _label(e) in classes]
    evaluation = (labeled or pool)[:_EVALUATION_ROWS]
    wanted = sorted({str(e["source"]) for e in (*calibration, *evaluation)})
    rows = dict(zip(wanted, _pictures(wanted, spec), strict=True))
    return Samples(
        np.stack([rows[e["source"]] for e in calibration]) if calibration else np.zeros((0, *spec.shape), np.float32),
        np.stack([rows[e["source"]] for e in evaluation]),
        np.array([classes[_label(e)] for e in evaluation], np.int64) if labeled else None,
        "held-out rows of the dataset version" if held_out else "dataset version",
    )


def synthetic(shape: tuple[int, ...]) -> Samples:
    """Random rows, to compare outputs where no data was given."""
    rows = np.random.default_rng(0).random((256, *shape), np.float32)
    return Samples(rows, rows, None, "random numbers")


def to_row(content: bytes, spec: ImageInput, name: str) -> NDArray[np.float32]:
    """One picture as the model's input. Raises ConversionFailure for what is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=_IMAGE_FORMATS) as image:
            picture = image.convert(spec.mode)
    except (UnidentifiedImageError, OSError, ValueError) as e:
        raise ConversionFailure(f"{name} is not a picture in one of the formats {', '.join(_IMAGE_FORMATS)}") from e
    if picture.size != spec.size:
        picture = picture.resize(spec.size, Image.Resampling.BILINEAR)
    pixels: NDArray[np.float32] = np.asarray(picture, np.float32).reshape(spec.size[1], spec.size[0], -1)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    pixels = (pixels * np.float32(spec.scale) - mean) / std
    if spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels, np.float32)


def _label(entry: dict[str, Any]) -> str:
    # Several annotations can stand side by side, a machine's proposals among them; a person's comes first.
    found = [a for a in entry.get("annotation") or () if str(a.get("type", "")).endswith("image_classification")]
    found.sort(key=lambda a: a.get("annotated-by", "human") != "human")
    return str(found[0].get("name", "")) if found else ""


def _pictures(paths: list[str], spec: ImageInput) -> list[NDArray[np.float32]]:
    """Fetch by the URLs the platform gives this workload for its own paths, folder by folder."""
    project, workload = os.environ["BOTTEGA_PROJECT_ID"], os.environ["BOTTEGA_WORKLOAD_ID"]
    listing = f"{os.environ['BOTTEGA_URL']}/v1/{project}/workloads/{workload}/objects"
    parsed = [ObjectPath.parse(path, "source") for path in paths]
    wanted = {str(path) for path in parsed}
    folders = {str(ObjectPath(p.bucket, p.key[: p.key.rfind("/") + 1])) for p in parsed}
    transport = httpx.HTTPTransport(retries=_TRIES)
    limits = httpx.Limits(max_connections=_PARALLEL + 1)
    with httpx.Client(transport=transport, limits=limits, timeout=60, trust_env=False) as http:
        urls: dict[str, str] = {}
        for folder in folders:
            start: str | None = ""
            while start is not None:
                answer = http.get(
                    listing,
                    params={"path": folder, "start_after": start},
                    headers={"X-Auth-Token": os.environ["BOTTEGA_TOKEN"]},
                )
                if answer.status_code != 200:
                    raise ConversionFailure(f"the platform refused to list {folder}: {answer.text[:300]}")
                page = answer.json()
                urls |= {o["path"]: o["url"] for o in page["objects"] if o["path"] in wanted}
                start = page["next"]
        lost = wanted - set(urls)
        if lost:
            raise ConversionFailure(f"{len(lost)} pictures of the dataset version are not there any more: {min(lost)}")

        def fetch(path: ObjectPath) -> NDArray[np.float32]:
            answer = http.get(urls[str(path)])
            if answer.status_code != 200:
                raise ConversionFailure(f"the object store answered {answer.status_code} for {path}")
            return to_row(answer.content, spec, str(path))

        with ThreadPoolExecutor(_PARALLEL) as workers:
            return list(workers.map(fetch, parsed))
