"""``bottega datasets`` from the command line, on a running platform."""

from __future__ import annotations

import json
from pathlib import Path

from bottega.cli_support import OPTIONS
from bottega.client import ApiFailure
from bottega.testing import Tenant

from .conftest import Cli


def test_the_daily_work(cli: Cli, bucket: str, pictures: str, tmp_path: Path) -> None:
    assert cli.run("create", "animals", "--output", f"s3://{bucket}/out/", "--label", "Bird").exit_code == 0
    task = cli.json("import", "animals", pictures)
    assert (task["imported_sample_count"], len(task["problems"])) == (13, 1)
    assert [row["dataset_name"] for row in cli.json("list")] == ["animals"]
    shown = cli.json("show", "animals", "--samples", "10", "--unlabeled")
    assert len(shown["samples"]) == 3
    assert {x["name"]: x["sample_count"] for x in shown["label_stats"]} == {"Bird": 0, "Cat": 6, "Dog": 4}
    ids = tmp_path / "ids"
    ids.write_text("\n".join(s["sample_id"] for s in shown["samples"]))
    assert cli.run("label", "animals", "Bird", "--file", str(ids)).exit_code == 0
    version = cli.json("publish", "animals", "--train", "0.8", "--version", "gold")
    assert (version["version_name"], version["annotated_sample_count"]) == ("gold", 13)
    assert [row["version_name"] for row in cli.json("versions", "animals")] == ["gold"]
    exported = cli.json("export", "animals", f"s3://{bucket}/exported/", "--version", "gold")
    assert exported["finished_sample_count"] == 13
    assert cli.run("delete", "animals", "--yes").exit_code == 0
    assert cli.json("list") == []


def test_other_formats_copies_and_stopping(cli: Cli, bucket: str, pictures: str) -> None:
    assert cli.run("create", "animals", "--output", f"s3://{bucket}/out/", "--input", pictures).exit_code == 0
    task = cli.json("export", "animals", f"s3://{bucket}/csv/", "--format", "csv", "--labeled", "--no-images")
    assert (task["annotation_format"], task["finished_sample_count"], task["problem_count"]) == ("csv", 10, 0)
    assert cli.run("create", "again", "--output", f"s3://{bucket}/again/").exit_code == 0
    read = cli.json("import", "again", f"s3:/{task['export_path']}", "--format", "csv")
    assert (read["imported_sample_count"], read["annotated_sample_count"], read["problems"]) == (10, 10, [])
    made = cli.json("copy", "animals", "cats", "--output", f"s3://{bucket}/cats/", "--labeled")
    assert made["total_sample_count"] == 10
    stopped = cli.run("stop", "animals", task["task_id"])
    assert isinstance(stopped.exception, ApiFailure)
    assert "nothing to stop" in str(stopped.exception)
    OPTIONS.as_json = False
    told = cli.run("export", "animals", f"s3://{bucket}/yolo/", "--format", "dir", "--train", "0.5")
    assert told.exit_code == 0
    assert "not carried" in told.output


def test_tables_for_people(cli: Cli, bucket: str, pictures: str) -> None:
    OPTIONS.as_json = False
    made = cli.run("create", "animals", "--output", f"s3://{bucket}/out/", "--input", pictures)
    assert made.exit_code == 0
    assert "13 samples imported" in made.output
    assert "left out" in made.output
    shown = cli.run("show", "animals", "--samples", "2")
    assert shown.exit_code == 0
    assert "Cat" in shown.output
    refused = cli.run("delete", "animals")
    assert refused.exit_code == 1
    assert "animals" in cli.run("list").output
    assert "image" in cli.run("list").output


def test_wrong_use_and_failures(cli: Cli, bucket: str) -> None:
    assert cli.run("create", "x", "--output", f"s3://{bucket}/x/", "--type", "smell").exit_code == 2
    cli.json("create", "boxes", "--output", f"s3://{bucket}/boxes/", "--type", "object-detection")
    assert cli.json("show", "boxes")["dataset_type"] == 1
    assert {row["name"] for row in cli.json("types")} > {"object_detection", "video"}
    assert cli.run("label", "x", "Cat").exit_code == 2
    missing = cli.run("show", "nothing")
    assert isinstance(missing.exception, ApiFailure)
    assert "no dataset 'nothing'" in missing.exception.message
    cli.run("create", "animals", "--output", f"s3://{bucket}/out/")
    empty = cli.run("publish", "animals")
    assert isinstance(empty.exception, ApiFailure)
    assert empty.exception.status == 409


def test_labeling_from_the_command_line(cli: Cli, tenant: Tenant, bucket: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("one\ntwo\nthree\n")
    (texts / "b.txt").write_bytes(b"\xff")
    tenant.objects.put(f"s3://{bucket}/in/first.txt", b"zero\n")
    cli.run("create", "t", "--output", f"s3://{bucket}/out/", "--input", f"s3://{bucket}/in/", "--type", "text")
    uploaded = cli.run("upload", "t", str(texts))
    assert uploaded.exit_code == 1
    assert [r["success"] for r in json.loads(uploaded.stdout)] == [True, False]
    cli.run("labels", "add", "t", "Number", "--color", "#FF0000")
    edited = cli.json("edit", "t", "--where", '{"text": "t"}', "--add", "Number")
    assert edited["changed_sample_count"] == 2
    cli.run("labels", "rename", "t", "Number", "Digit")
    found = cli.json("search", "t", "--where", '{"label_list": {"labels": [{"name": "Digit"}]}}', "--save", "digits")
    assert [s["sample_data"] for s in found] == [["two"], ["three"]]
    assert len(cli.json("search", "t", "--filter", "digits")) == 2
    assert [c["cause"] for c in cli.json("history", "t")] == ["rename", "label"]
    ident = found[0]["sample_id"]
    assert len(cli.json("history", "t", ident)) == 1
    assert cli.json("undo", "t", ident)[0]["labels"] == []
    assert cli.json("undo", "t", edited["change_id"], "--partial")["changed_sample_count"] == 1
    assert cli.json("similar", "t", ident, "--limit", "2")[0]["similarity"] < 1
    tenant.objects.put(f"s3://{bucket}/in/late.txt", b"late\n")
    assert cli.json("sync", "t", "--watch")["add_sample_count"] == 1
    cli.run("labels", "delete", "t", "Digit")
    assert cli.json("labels", "list", "t") == []
    source = ("--source", f"s3://{bucket}/nothing/", "--output", f"s3://{bucket}/old/")
    assert cli.run("migrate", "old", *source).exit_code == 1
    assert cli.run("search", "t", "--where", "{").exit_code == 2
