"""docs/datasets.md says what the types do: each of its examples is read, checked, and written again as it stands."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from bottega.objects import ObjectPath
from bottega_dataset.extension_points import DatasetType, check
from bottega_dataset.learner import Learner
from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.sample import BadSample

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text("utf-8")
KINDS: dict[int, DatasetType] = {
    kind.code: kind
    for point in entry_points(group="bottega")
    if point.name.startswith("types-")
    for kind in point.load().bottega_dataset_types()
}
LEARNERS: dict[int, Learner] = {
    code: learner
    for point in entry_points(group="bottega")
    if point.name.startswith("learner-")
    for learner in point.load().bottega_dataset_learners()
    for code in learner.dataset_types
}
SECTIONS = {
    int(code): text
    for text in re.split(r"^### ", PAGE, flags=re.M)
    for code in re.findall(r"^`dataset_type` (\d+)\.", text, re.M)
}


def blocks(text: str, language: str = "json") -> dict[str, str]:
    """The text of each fenced block with a title, by that title."""
    return dict(re.findall(rf'^```{language} title="([^\n]*)"\n(.*?)^```$', text, re.M | re.S))


def line(text: str) -> bytes:
    return json.dumps(json.loads(text)).encode()


def test_every_type_has_its_section() -> None:
    assert SECTIONS.keys() == KINDS.keys()


@pytest.mark.parametrize("code", sorted(KINDS))
def test_the_section_of_a_type(code: int) -> None:
    kind, text = KINDS[code], SECTIONS[code]
    assert f"\n{kind.layout}\n" in text, "how a folder is read stands there in the type's own words"
    properties = {field.alias for one in kind.annotations if one.schema for field in one.schema.model_fields.values()}
    assert [name for name in properties if f"`{name}`" not in text] == []
    examples = blocks(text)
    record = check(kind, parse_line(line(examples.pop(kind.name))))
    assert {one.type for one in record.annotations} == set(kind.kinds), "the example has each kind of annotation"
    again = parse_line(format_line(record))
    assert again == record
    refused = [(title.removeprefix("refused: "), one) for title, one in examples.items() if title.startswith("refused")]
    assert refused, "what is refused is shown"
    for says, example in refused:
        with pytest.raises(BadSample) as reason:
            check(kind, parse_line(line(example)))
        assert says in str(reason.value)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_the_section_says_who_learns_the_type_and_from_how_much(code: int) -> None:
    (said,) = re.findall(r"^Automatic labeling: (.*?)[.;] ", SECTIONS[code], re.M)
    learner = LEARNERS.get(code)
    if learner is None:
        assert said == "none"
        return
    number = learner.minimum_labels
    needed = f"{learner.minimum_samples} samples each" if number else f"{learner.minimum_samples} labeled samples"
    labels = f"{number} label{'s' if number > 1 else ''} with " if number else ""
    assert said == f"`{learner.id}`, from {labels}{needed}"


def test_the_files_of_object_detection() -> None:
    text, kind = SECTIONS[1], KINDS[1]
    located = parse_line(line(blocks(text)["located"]))
    record = kind.expanded(located, {"s3://pets/a.xml": blocks(text, "xml")["a.xml"].encode()})
    published, files = kind.published(check(kind, record), ObjectPath("pets", ""))
    (written,) = files.values()
    assert written.decode() == "<?xml version='1.0' encoding='utf-8'?>\n" + blocks(text, "xml")["a.xml"].rstrip() + "\n"
    (one,) = published.annotations
    assert one.loc is not None
    assert (one.created_at, one.annotated_by) == (located.annotations[0].created_at, "human")


def test_the_line_at_the_top_has_every_field() -> None:
    (text,) = (block for title, block in blocks(PAGE).items() if title.startswith("A line"))
    record = check(KINDS[0], parse_line(line(text)))
    said: dict[str, Any] = json.loads(format_line(record))
    assert said == json.loads(text) | {"annotation": said["annotation"]}
    assert said["annotation"] == json.loads(text)["annotation"]
