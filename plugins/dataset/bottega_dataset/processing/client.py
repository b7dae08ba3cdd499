"""Processing tasks from Python.

::

    from bottega.client import Client
    from bottega_dataset.processing.client import Processing

    processing = Processing(Client.from_environment())
    found = processing.analyze("animals")
    print(found["brightness"]["statistics"]["mean"])
    done = processing.process(
        "animals", "sys_data_cleaning", {"Blurred": {"threshold": 80}}, new_dataset=("clean", "s3://pets/clean/")
    )
    for one in processing.results(done, outcome="deleted"):
        print(one["origin_source"], one["result_description"][0]["reason"])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from bottega.client import Client
from bottega_dataset.client import Datasets, TaskFailed

_ALL = "/v2/{project_id}/processor-tasks"
_POLL_S = 0.2
_ENDS = {3: "failed", 4: "was stopped"}
OUTCOMES = {"reserved": 0, "modified": 1, "deleted": 2, "added": 3}

Progress = Callable[[dict[str, Any]], None]
"""Called with the task's version as the API shows it, each time it was asked for."""


class Order(TypedDict, total=False):
    """What may be said of a task beside its source and its operators; nothing has to be.

    The result goes into a new dataset (name and output folder), a new version of the dataset (its name, ``""``:
    V001, …) or the folder; `version` is that of the dataset which is looked at, `dataset_type` what a folder holds.
    `samples`, `sample_state` or `search_conditions` choose among a dataset's samples.
    """

    version: str | None
    dataset_type: int
    new_dataset: tuple[str, str] | None
    new_version: str | None
    folder: str | None
    name: str | None
    seed: int | None
    flavor: str | None
    samples: Sequence[str]
    sample_state: str | None
    search_conditions: Sequence[Mapping[str, Any]]


_CHOICE = ("samples", "sample_state", "search_conditions")


class Processing:
    """The processing tasks of a project."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._datasets = Datasets(client)

    def templates(self) -> Sequence[dict[str, Any]]:
        """The kinds of tasks, each with its operators and their parameters."""
        found: Sequence[dict[str, Any]] = self._client.get(f"{_ALL}/items")["items"]
        return found

    def list(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Tasks, the newest first; `filters` are those of the API, such as ``task_type`` and ``status``."""
        return self._client.pages(_ALL, "tasks", {"return_result": False, **filters})

    def analyze(
        self,
        dataset: str,
        version: str | None = None,
        *,
        name: str | None = None,
        operators: Mapping[str, Mapping[str, Any]] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Analyse the features of a dataset, or of a version of it; what was found, by name. Raises TaskFailed."""
        done = self.process(dataset, "sys_data_analyse", operators, version=version, name=name, progress=progress)
        found: dict[str, Any] = done["result"]
        return found

    def process(
        self,
        source: str,
        template: str,
        operators: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        progress: Progress | None = None,
        **order: Unpack[Order],
    ) -> dict[str, Any]:
        """Run a task on a dataset (its name) or a folder (its path), wait for it, and return its version as it ended.

        `order` says what else is wanted (`Order`). Raises TaskFailed.
        """
        started = self.start(source, template, operators, **order)
        return self.wait(started["task_id"], started["version_id"], progress)

    def start(
        self,
        source: str,
        template: str,
        operators: Mapping[str, Mapping[str, Any]] | None = None,
        **order: Unpack[Order],
    ) -> dict[str, Any]:
        """As `process`, without waiting: ``task_id`` and ``version_id``."""
        given: dict[str, Any]
        if source.startswith(("s3://", "obs://", "/")):
            given = {"type": "OBS", "source": source, "dataset_type": order.get("dataset_type", 0)}
        else:
            dataset_id = self._datasets.get(source)["dataset_id"]
            given = {"type": "DATASET", "source": dataset_id, "version_name": order.get("version")}
            given |= {name: value for name, value in order.items() if name in _CHOICE}
        body: dict[str, Any] = {
            "name": order.get("name") or f"{template.rpartition('_')[2]}-{time.time_ns() // 1_000_000}",
            "create_version": True,
            "data_source": given,
            "template": {
                "id": template,
                "operator_params": [{"id": one, "params": dict(params)} for one, params in (operators or {}).items()],
            },
            "seed": order.get("seed"),
            "flavor": order.get("flavor"),
        }
        if made := order.get("new_dataset"):
            body["work_path"] = {"type": "DATASET", "name": made[0], "output_path": made[1]}
        elif (new_version := order.get("new_version")) is not None:
            body["work_path"] = {"type": "DATASET", "path": given["source"], "version_name": new_version}
        elif folder := order.get("folder"):
            body["work_path"] = {"type": "OBS", "path": folder}
        answer: dict[str, Any] = self._client.post(_ALL, body)
        return answer

    def again(self, task_id: str, progress: Progress | None = None, **changes: Any) -> dict[str, Any]:
        """Run a task once more, with `changes` (fields of the API), and wait for it. Raises TaskFailed."""
        version = self._client.post(f"{_ALL}/{task_id}/versions", {"name": "again", **changes})
        return self.wait(task_id, version["version_id"], progress)

    def wait(self, task_id: str, version_id: str, progress: Progress | None = None) -> dict[str, Any]:
        """Raises TaskFailed, with the reason, when the version failed or was stopped."""
        while True:
            shown: dict[str, Any] = self._client.get(f"{_ALL}/{task_id}/versions/{version_id}")
            if progress:
                progress(shown)
            if shown["status"] in _ENDS:
                raise TaskFailed(f"the task {_ENDS[shown['status']]}: {shown['error_msg'] or 'somebody stopped it'}")
            if shown["status"] == 2:
                return shown
            time.sleep(_POLL_S)

    def results(self, version: Mapping[str, Any], outcome: str | None = None) -> Iterator[dict[str, Any]]:
        """What became of samples and why: of all, or of those ``reserved``, ``modified``, ``deleted`` or ``added``."""
        where = f"{_ALL}/{version['task_id']}/versions/{version['task_version_id']}/results"
        wanted = {"result_property": OUTCOMES[outcome]} if outcome else {}
        offset = 0
        while True:
            page = self._client.get(where, {**wanted, "offset": offset, "limit": 100})
            yield from page["results"]
            offset += len(page["results"])
            if not page["has_more"]:
                return

    def stop(self, task_id: str, version_id: str) -> None:
        self._client.post(f"{_ALL}/{task_id}/versions/{version_id}/stop", {})

    def delete(self, task_id: str) -> None:
        """Delete a task with its versions; what they made stays."""
        self._client.delete(f"{_ALL}/{task_id}")
