"""Automatic labeling and grouping through the API, with real workloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets

FRUIT = ["apple", "pear", "plum", "cherry", "fig", "grape", "lemon", "melon", "peach", "mango"]
TOOLS = ["hammer", "saw", "drill", "wrench", "chisel", "plane", "file", "clamp", "vise", "rasp"]


def sentences(words: list[str], number: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{' and '.join(rng.choice(words, 3, replace=False))} no. {seed}-{n}" for n in range(number)]


def manifest(lines: list[tuple[str, str | None]]) -> bytes:
    said = [
        {"source": f"content://{text}"}
        | ({"annotation": [{"type": "text_classification", "name": label}]} if label else {})
        for text, label in lines
    ]
    return "\n".join(json.dumps(one) for one in said).encode()


@pytest.fixture
def texts(tenant: Tenant, datasets: Datasets, bucket: str) -> str:
    """A dataset: 8 texts labeled fruit, 8 tools, 30 of each without a label."""
    lines: list[tuple[str, str | None]] = []
    for name, words in (("fruit", FRUIT), ("tool", TOOLS)):
        lines += [(text, name) for text in sentences(words, 8, len(name))]
        lines += [(text, None) for text in sentences(words, 30, 10 + len(name))]
    tenant.objects.put(f"s3://{bucket}/texts.manifest", manifest(lines))
    datasets.create("things", f"/{bucket}/out/", dataset_type=100)
    datasets.import_from("things", f"s3://{bucket}/texts.manifest", import_type="manifest")
    return "things"


def is_right(sample: dict[str, Any]) -> bool:
    words = FRUIT if sample["labels"][0]["name"] == "fruit" else TOOLS
    return sample["sample_data"][0].split()[0] in words


def test_what_is_suggested_is_listed_filtered_confirmed_corrected_and_discarded(
    client: Client, datasets: Datasets, events: RecordedEvents, texts: str, one: Callable[[str], str]
) -> None:
    seen: list[float] = []
    task = datasets.auto_label(texts, progress=lambda shown: seen.append(shown["progress"]))
    assert (task["status"], task["progress"], task["task_type"]) == (3, 100.0, "auto-label")
    assert (task["annotated_sample_count"], task["unconfirmed_sample_count"]) == (60, 60)
    assert task["result"]["accuracy"] > 0.9
    assert seen == sorted(seen)
    finished = events.wait("dataset.task.finished.v1", kind="auto-label")
    assert finished.data["counts"]["suggested"] == 60

    path = one(texts) + "/auto-annotations/samples"
    found = list(datasets.suggestions(texts))
    assert len(found) == 60
    assert sum(is_right(sample) for sample in found) >= 58
    assert all(sample["sample_status"] == "__NONE__" for sample in found)
    by_score = [s["labels"][0]["score"] for s in datasets.suggestions(texts, sort_by="score")]
    assert by_score == sorted(by_score, reverse=True)
    ranks = [s["learning_rank"] for s in datasets.suggestions(texts, sort_by="learning")]
    assert ranks == list(range(1, 61))
    fruit = client.get(path, {"label_name": "fruit"})["sample_count"]
    tool = client.get(path, {"label_name": "tool"})["sample_count"]
    assert fruit + tool == 60
    middle = by_score[20]
    assert client.get(path, {"low_score": middle})["sample_count"] == sum(s >= middle for s in by_score)
    assert client.get(f"{path}/{found[0]['sample_id']}")["labels"] == found[0]["labels"]

    first, second, third = (sample["sample_id"] for sample in found[:3])
    answer = datasets.confirm(texts, {first: None, second: ["toy"]})
    assert (answer["confirmed_sample_count"], answer["corrected_sample_count"]) == (2, 1)
    labeled = {s["sample_id"]: s for s in datasets.samples(texts, labeled=True)}
    assert labeled[first]["labels"][0]["annotated_by"] == "modelarts/active-learning"
    assert labeled[first]["labels"][0]["score"] == found[0]["labels"][0]["score"]
    assert labeled[second]["labels"][0]["name"] == "toy"
    assert labeled[second]["labels"][0]["annotated_by"].startswith("human/")
    again = client.post(f"{path}/confirm", {"samples": [{"sample_id": first}]})
    assert not again["success"]
    assert "there are no suggestions for sample" in again["results"][0]["error_msg"]

    assert client.post(f"{path}/discard", {"samples": [{"sample_id": third}]})["discarded_sample_count"] == 1
    sure = client.get(path, {"low_score": 0.6})["sample_count"]
    assert datasets.confirm(texts, low_score=0.6)["confirmed_sample_count"] == sure > 20
    assert client.get(path)["sample_count"] == 57 - sure
    assert client.get(f"{one(texts)}/tasks/{task['task_id']}")["unconfirmed_sample_count"] == 57 - sure
    with pytest.raises(ApiFailure, match="name samples, or say all"):
        client.post(f"{path}/confirm", {})


def test_relations_are_suggested_with_the_entities_they_join(
    tenant: Tenant, client: Client, datasets: Datasets, bucket: str, one: Callable[[str], str]
) -> None:
    people, firms = ("Anna", "Bernd", "Clara", "David", "Emma"), ("Acme", "Bolt", "Cirrus", "Delta")
    lines = []
    for number in range(24):
        person, firm = people[number % 5], firms[number % 4]
        joined = number % 3 < 2
        text = f"Mrs {person} {'founded' if joined else 'only visited'} the firm {firm} in {1950 + number}"
        place = text.index(firm)
        said: list[dict[str, Any]] = [
            {"type": "text_entity", "name": "person", "id": "P", "property": span(4, 4 + len(person))},
            {"type": "text_entity", "name": "firm", "id": "F", "property": span(place, place + len(firm))},
        ]
        if joined:
            ends = {"@modelarts:from": "P", "@modelarts:to": "F"}
            said.append({"type": "text_triplet", "name": "founded", "id": "R", "property": ends})
        line: dict[str, Any] = {"source": f"content://{text}"}
        lines.append(line | ({"annotation": said} if number < 15 else {}))
    tenant.objects.put(f"s3://{bucket}/triplets.manifest", "\n".join(map(json.dumps, lines)).encode())
    datasets.create("firms", f"/{bucket}/out/", dataset_type=102)
    datasets.import_from("firms", f"s3://{bucket}/triplets.manifest", import_type="manifest")

    task = datasets.auto_label("firms")
    assert task["annotated_sample_count"] == 9
    for sample in datasets.suggestions("firms"):
        relations = [label for label in sample["labels"] if label["type"] == 102]
        assert len(relations) == ("founded" in sample["sample_data"][0])
    answer = datasets.confirm("firms")
    assert answer["confirmed_sample_count"] == 9
    for sample in datasets.samples("firms", labeled=True):
        text = sample["sample_data"][0]
        labels: dict[str, dict[str, Any]] = {label["id"]: label for label in sample["labels"]}
        for relation in (label for label in labels.values() if label["type"] == 102):
            pair = [labels[relation["property"][end]] for end in ("@modelarts:from", "@modelarts:to")]
            assert [end["name"] for end in pair] == ["person", "firm"]
            words = [text[int(e["property"][START_INDEX]) : int(e["property"][END_INDEX])] for e in pair]
            assert f"Mrs {words[0]} founded the firm {words[1]}" in text


START_INDEX, END_INDEX = "@modelarts:start_index", "@modelarts:end_index"


def span(start: int, end: int) -> dict[str, int]:
    return {START_INDEX: start, END_INDEX: end}
