"""Samples and labels from Python: adding, finding, labeling many, seeing and taking back what was done.

::

    datasets = Datasets(Client.from_environment())
    datasets.labeling.upload("digits", Path("photos").glob("*.png"))
    datasets.labeling.edit("digits", add=["seven"], conditions=[{"sample_name": "seven-"}])
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bottega.client import ApiFailure, Client

_ALL = "/v2/{project_id}/datasets"
_POLL_S = 0.2
_BYTES, _FILES, _AT_ONCE = 4 * 2**20, 100, 4

Told = Callable[[int], None]
"""Called with the number of files sent since the last call."""


class SyncFailed(Exception):
    """A synchronization failed; the message says why."""


class Labeling:
    """What people do with the samples of a dataset. `path_of` gives the API's path of a dataset by its name."""

    def __init__(self, client: Client, path_of: Callable[[str], str]) -> None:
        self._client = client
        self._path_of = path_of

    def upload(
        self, name: str, files: Iterable[Path], *, labels: Sequence[str] = (), progress: Told = lambda _: None
    ) -> list[dict[str, Any]]:
        """Add files as samples, several batches at a time. Returns a result for each; one that failed says why."""
        path = self._path(name) + "/samples"

        def send(some: Sequence[Path]) -> list[dict[str, Any]]:
            said = [{"name": label} for label in labels]
            samples = [
                {"name": file.name, "data": base64.b64encode(file.read_bytes()).decode(), "labels": said}
                for file in some
            ]
            results: list[dict[str, Any]] = self._client.post(path, {"samples": samples})["results"]
            progress(len(some))
            return results

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [result for results in pool.map(send, _batches(files)) for result in results]

    def search(
        self,
        name: str,
        conditions: Sequence[Mapping[str, Any]] = (),
        *,
        state: str | None = None,
        filter_id: str | None = None,
        descending: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Every sample that all `conditions` (the API's ``search_conditions``) fit, a thousand at a time."""
        params = {
            "search_conditions": json.dumps(list(conditions)) if conditions else None,
            "sample_state": state,
            "filter_id": filter_id,
            "order": "desc" if descending else "asc",
            "limit": 1000,
            "count": "none",
        }
        cursor: str | None = None
        while True:
            page = self._client.get(self._path(name) + "/samples", {**params, "cursor": cursor})
            yield from page["samples"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def edit(
        self,
        name: str,
        samples: Sequence[str] = (),
        *,
        conditions: Sequence[Mapping[str, Any]] | None = None,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        labels: Sequence[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The same change for samples, or for all that one of `conditions` fits; all of it or nothing.

        `more` are further fields of the API: ``sample_state``, ``filter_id``, ``sample_usage``, ``metadata``.
        """
        body = {
            "samples": list(samples),
            "search_conditions": None if conditions is None else list(conditions),
            "add_labels": [{"name": one} for one in add],
            "remove_labels": [{"name": one} for one in remove],
            "labels": None if labels is None else [{"name": one} for one in labels],
            **more,
        }
        answer: dict[str, Any] = self._client.post(self._path(name) + "/samples/batch-update", body)
        return answer

    def delete(
        self,
        name: str,
        samples: Sequence[str] = (),
        *,
        conditions: Sequence[Mapping[str, Any]] | None = None,
        with_objects: bool = False,
        **more: Any,
    ) -> int:
        """Take samples, or all that one of `conditions` fits, out of the dataset. Returns how many there were.

        `more` are further fields of the API: ``sample_state``, ``filter_id``.
        """
        body = {
            "samples": list(samples),
            "search_conditions": None if conditions is None else list(conditions),
            "delete_source": with_objects,
            **more,
        }
        return int(self._client.post(self._path(name) + "/samples/delete", body)["deleted_sample_count"])

    def history(self, name: str, sample_id: str) -> Iterator[dict[str, Any]]:
        """What a sample was before each change, the newest first."""
        return self._client.pages(f"{self._path(name)}/samples/{sample_id}/history", "history")

    def changes(self, name: str) -> Iterator[dict[str, Any]]:
        """What was done to samples and labels, the newest first."""
        return self._client.pages(self._path(name) + "/changes", "changes")

    def undo(self, name: str, sample_id: str) -> dict[str, Any]:
        """Take back a sample's last change; returns the sample. Raises ApiFailure (409) when there is none."""
        answer: dict[str, Any] = self._client.post(f"{self._path(name)}/samples/{sample_id}/undo", {})
        return answer

    def undo_change(self, name: str, change_id: str, *, partial: bool = False) -> dict[str, Any]:
        """Take back a change of many samples. Raises ApiFailure (409) when samples were changed since.

        :param partial: leave those as they are.
        """
        answer: dict[str, Any] = self._client.post(f"{self._path(name)}/changes/{change_id}/undo", {"partial": partial})
        return answer

    def similar(self, name: str, sample_id: str, limit: int = 20, *, timeout_s: float = 600) -> list[dict[str, Any]]:
        """The samples most like one, the most similar first, once all have been compared."""
        path = f"{self._path(name)}/samples/{sample_id}/similar"
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._client.get(path, {"limit": limit})
            if answer["task_id"] is None or time.monotonic() > deadline:
                found: list[dict[str, Any]] = answer["samples"]
                return found
            self._ended(name, answer["task_id"], path, deadline)

    def _ended(self, name: str, task_id: str, path: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._client.get(path, {"limit": 1})["task_id"] != task_id:
                return
            time.sleep(_POLL_S)

    def save_filter(
        self, name: str, filter_name: str, conditions: Sequence[Mapping[str, Any]], *, state: str | None = None
    ) -> dict[str, Any]:
        body = {"name": filter_name, "search_conditions": list(conditions), "sample_state": state}
        answer: dict[str, Any] = self._client.post(self._path(name) + "/filters", body)
        return answer

    def filters(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get(self._path(name) + "/filters", {"limit": 1000})["filters"]
        return found

    def filter(self, name: str, filter_name: str) -> dict[str, Any]:
        """The saved filter of that name. Raises ApiFailure (404)."""
        for one in self.filters(name):
            if one["name"] == filter_name:
                return one
        raise ApiFailure(404, "ModelArts.0104", f"the dataset has no filter '{filter_name}'", "")

    def delete_filter(self, name: str, filter_name: str) -> None:
        self._client.delete(f"{self._path(name)}/filters/{self.filter(name, filter_name)['filter_id']}")

    def labels(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get(self._path(name) + "/labels")["labels"]
        return found

    def add_label(
        self,
        name: str,
        label: str,
        *,
        attributes: Sequence[Mapping[str, Any]] = (),
        label_type: int | None = None,
        **properties: str,
    ) -> None:
        """`properties` are ``color``, ``shortcut``, ``default_shape``, ``from_type``, ``to_type``.

        :param attributes: what annotations may say beside their label, as the API has them: ``{"name": "age"}`` for any
            text, ``{"name": "coat", "type": "select", "values": [{"value": "white"}]}`` for one of some.
        :param label_type: where the dataset has labels of several types (relations 102, entities 103).
        """
        prop = {key: value for key, value in properties.items() if value}
        self._client.post(self._path(name) + "/labels", _label(label, prop, attributes, label_type))

    def change_label(
        self,
        name: str,
        label: str,
        *,
        attributes: Sequence[Mapping[str, Any]] | None = None,
        label_type: int | None = None,
        **properties: str,
    ) -> None:
        """Give a label other properties, or (``rename_to``) another name, on all samples at once.

        An empty property is removed. `attributes` replace all the label has.
        """
        self._client.put(self._path(name) + "/labels", _label(label, properties, attributes, label_type))

    def delete_label(self, name: str, label: str, *, with_samples: bool = False, with_objects: bool = False) -> None:
        """Take a label off all samples; if asked, the samples that bear only it are deleted, or their objects too."""
        policy = 2 if with_objects else 1 if with_samples else 0
        path = f"{self._path(name)}/labels/delete?delete_policy={policy}"
        self._client.post(path, {"labels": [{"name": label}]})

    def sync(self, name: str, progress: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
        """Bring a dataset up to date with its input path; returns the finished status. Raises SyncFailed."""
        path = self._path_of(name) + "/sync-data"
        task_id = self._client.post(path, {})["task_id"]
        while True:
            status: dict[str, Any] = self._client.get(path + "/status")
            progress(status)
            if status.get("task_id") == task_id and status["status"] in ("COMPLETED", "FAILED"):
                if status["status"] == "FAILED":
                    raise SyncFailed(status["error_msg"])
                return status
            time.sleep(_POLL_S)

    def watch(self, name: str, on: bool = True) -> None:
        """Follow the input path object by object, or follow it no longer."""
        self._client.put(self._path_of(name), {"watch": on})

    def migrate(self, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Make datasets of old labeling jobs; returns a result for each."""
        answer: list[dict[str, Any]] = self._client.post(_ALL + "/migrations", {"jobs": list(jobs)})["results"]
        return answer

    def migrations(self) -> Iterator[dict[str, Any]]:
        """What became of old labeling jobs, the newest first."""
        return self._client.pages(_ALL + "/migrations", "migrations")

    def _path(self, name: str) -> str:
        return self._path_of(name) + "/data-annotations"


def _label(
    name: str,
    properties: Mapping[str, str],
    attributes: Sequence[Mapping[str, Any]] | None,
    label_type: int | None,
) -> dict[str, Any]:
    """The body of a request about one label."""
    prop = {f"@modelarts:{key}": value for key, value in properties.items()}
    said = {"attributes": None if attributes is None else [*attributes], "type": label_type}
    return {"labels": [{"name": name, "property": prop, **said}]}


def _batches(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Files in batches the API takes."""
    batch: list[Path] = []
    size = 0
    for file in files:
        length = file.stat().st_size
        if batch and (size + length > _BYTES or len(batch) == _FILES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += length
    if batch:
        yield batch
