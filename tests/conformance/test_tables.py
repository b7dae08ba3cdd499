"""docs/conformance.md says of every operation what the tests of this folder saw; they run before these."""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import reference
from .conftest import ANSWERED

_ALL_OR_NONE = r"(Creating a Dataset Label|Modifying Labels in Batches|Deleting (Labels in Batches|a Labeling Team)"
_ALL_OR_NONE += r"|Deleting Labeling Team Members in Batches)"
_SCANS = "of medical scans, which are no type of dataset here"
_PREPARED = "an import or a publication processes nothing: cropping, rotating, analysis are processing tasks"
UNANSWERED = {
    r".*: (.*\.)?(deletion_reasons|deletion_stats|sub_sample_url)": _SCANS,
    r".*: (.*\.)?(crop_path|rotate_path|crop_rotate_cache_path|manifest_cache_input_path)": _PREPARED,
    r".*Import Task.*: .*\.processor_task_(id|status)": _PREPARED,
    r".*: (DataSource\.source_info|SourceInfo\..*)": "data comes from object storage; another data_type is refused",
    r".*: Result\.(dlf_.*|service_.*|samples)": "a task ends with suggestions; no service is made of what it learned",
    r".*: Result\.version_(id|name)": "a task learns from the dataset as it stands, not from a version",
    r".*: (DatasetVersion|.* Version)\.sample_state": "a version has the samples of all states",
    r".*: (.*\.)?third_path": "there is no third party's storage",
    r".*: LabelProperty\.@modelarts:rename_to": "it renames a label, and is gone with that",
    rf"{_ALL_OR_NONE}: BatchResponse\.error_(code|msg)": "all is done or nothing; a refusal is an error answer",
    r"Querying Details About a Dataset: DatasetVersion\.(code|message)": "the current version is a published one",
    r"(Querying the Dataset Export Task List): \1\.(?!export_tasks|total_count).*": "a list is of no single task",
    r"Querying the Team Labeling Task List of a Dataset: WorkforceTask\.label_stats": (
        "counting reads every label of a task: details and statistics do, on request, of one"
    ),
}
"""Documented fields of answers (operation: Model.field) that have no value here, and why."""


def test_the_page_says_what_the_tests_saw(
    table: Any, whole_run: bool, conformance_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    documented = table.documented(conformance_page)
    if whole_run:
        with capsys.disabled():
            print(f"\n{table.title}: {table.text.partition(chr(10))[0]}")
        assert documented == table.text, "run: pytest tests/conformance --write-table"
    for name, outcome in table.outcomes.items():
        if name in table.operations:
            assert f"| `{name}` | `{table.operations[name]}` | {outcome} |" in documented


def test_every_documented_field_is_answered() -> None:
    """By each operation what it answers and lists; of what these hold in turn, by one operation at least."""
    called = {one.title for one in reference.operations() if one.answer}
    if not called <= ANSWERED.keys():
        pytest.skip("it needs the tests of all documented operations before it")
    missing, deep = set(), set()
    for one in reference.operations():
        near = set(reference.documented(one.answer, one.answer_models, one.title, depth=2))
        deep |= set(reference.documented(one.answer, one.answer_models, one.title)) - near
        missing |= {f"{one.title}: {name}" for name in near - ANSWERED[one.title]}
    missing |= {f"any: {name}" for name in deep - set().union(*ANSWERED.values())}
    assert sorted(one for one in missing if not any(re.fullmatch(known, one) for known in UNANSWERED)) == []
    stale = [known for known in UNANSWERED if not any(re.fullmatch(known, one) for one in missing)]
    assert stale == [], "answered by now"
