"""What a manifest names, where that comes to lie, and lines that are no samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bottega.launch import manifests
from bottega.launch.failure import LaunchFailure


def write(folder: Path, *lines: str) -> Path:
    file = folder / "V001.manifest"
    file.write_text("\n".join(lines))
    return file


def test_each_object_is_named_once_and_texts_are_none(tmp_path: Path) -> None:
    sources = ["s3://b/1.png", "obs://b/2.png", "content://s3://b/x", "s3://b/1.png", "/b/3.png"]
    manifest = write(tmp_path, *(json.dumps({"source": source}) for source in sources), "", "  ")
    assert list(manifests.sources(manifest)) == ["s3://b/1.png", "obs://b/2.png", "/b/3.png"]


def test_the_local_manifest_differs_in_its_sources_only(tmp_path: Path) -> None:
    samples: list[dict[str, object]] = [
        {"source": "s3://b/deep/1.png", "usage": "TRAIN", "annotation": [{"name": "cat"}]},
        {"source": "content://ein Satz", "id": "7"},
    ]
    manifests.write_local(write(tmp_path, *map(json.dumps, samples)))
    local = [json.loads(line) for line in (tmp_path / "V001.local.manifest").read_text().splitlines()]
    assert local == [{**samples[0], "source": str(tmp_path / "data/b/deep/1.png")}, samples[1]]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"name": "x"}', "7"])
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(LaunchFailure, match=r"line 2 of V001\.manifest"):
        list(manifests.sources(write(tmp_path, '{"source": "s3://b/1"}', line)))


def test_a_source_that_is_no_object_path_is_named() -> None:
    with pytest.raises(LaunchFailure, match="http://x/y"):
        manifests.place("http://x/y")
