"""Datasets from Python: for notebooks, training code, scripts and the command line.

::

    from bottega.client import Client
    from bottega_dataset.client import Datasets

    datasets = Datasets(Client.from_environment())
    for sample in datasets.samples("digits", labeled=True):
        print(sample["source"], [label["name"] for label in sample["labels"]])
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bottega.client import ApiFailure, Client
from bottega_dataset.labeling_client import Labeling
from bottega_dataset.manifest import parse_line
from bottega_dataset.sample import LABELED, UNLABELED, SampleRecord
from bottega_dataset.transfer import Objects
from bottega_dataset.versions_client import POLL_S, Progress, TaskFailed, Versions, wait

__all__ = ["Datasets", "Progress", "TaskFailed"]

_ALL = "/v2/{project_id}/datasets"
_FILES_AT_ONCE, _THREADS = 256, 16


class Datasets(Versions):
    """The datasets of a project. A dataset is named by its name or its id."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.objects = Objects(client)
        self.labeling = Labeling(client, self._path)

    def list(self, contains: str | None = None, dataset_type: int | None = None) -> Iterator[dict[str, Any]]:
        params = {"search_content": contains, "dataset_type": dataset_type}
        return self._client.pages(_ALL, "datasets", params)

    def types(self) -> Sequence[dict[str, Any]]:
        """The types of datasets there are, with what may be said in them."""
        found: Sequence[dict[str, Any]] = self._client.get("/v2/{project_id}/dataset-types")["dataset_types"]
        return found

    def get(self, name: str) -> dict[str, Any]:
        """Raises ApiFailure (404) when there is none of this name or id."""
        return self._one(name)

    def create(
        self,
        name: str,
        work_path: str,
        *,
        data_path: str | None = None,
        dataset_type: int = 0,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        description: str = "",
    ) -> dict[str, Any]:
        """Create a dataset. What lies in `data_path` is imported at once: see ``import_task_id``, and `wait_import`."""
        body = {
            "dataset_name": name,
            "dataset_type": dataset_type,
            "work_path": work_path,
            "work_path_type": 0,
            "data_sources": [{"data_type": 0, "data_path": data_path}] if data_path else [],
            "labels": [{"name": label, "property": dict(props)} for label, props in (labels or {}).items()],
            "description": description,
        }
        answer: dict[str, Any] = self._client.post(_ALL, body)
        return answer

    def modify(self, name: str, **changes: Any) -> None:
        """Change a dataset; `changes` are fields of the API: ``dataset_name``, ``description``, ``watch``, ….

        Labels to add, change and delete (``add_labels``, ``update_labels``, ``delete_labels``) change with it, or none.
        """
        self._client.put(self._path(name), changes)

    def delete(self, name: str) -> None:
        """Delete a dataset; its objects stay in storage."""
        self._client.delete(self._path(name))

    def samples(
        self, name: str, *, labeled: bool | None = None, label: str | None = None, preview: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Every sample, in the order they were added, fetched a thousand at a time however many there are."""
        state = None if labeled is None else LABELED if labeled else UNLABELED
        path = self._path(name) + "/data-annotations/samples"
        params = {"sample_state": state, "label_name": label, "preview": preview, "order": "asc", "limit": 1000}
        cursor: str | None = None
        while True:
            page = self._client.get(path, {**params, "count": "none", "cursor": cursor})
            yield from page["samples"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def label(
        self,
        name: str,
        labels: Mapping[str, Sequence[str | Mapping[str, Any]]],
        *,
        revisions: Mapping[str, int] | None = None,
    ) -> None:
        """Set the labels of samples: sample id → names, or labels as the API has them (``property``, …).

        Raises ApiFailure when one is not there; the others are set.

        :param revisions: of samples, the ``revision`` that was seen. If one is another by now nothing is changed, and
            the ApiFailure (409) has both states: ``details["conflicts"]``, ``current`` and ``yours``.
        """
        seen = revisions or {}
        samples = [
            {
                "sample_id": ident,
                "labels": [{"name": one} if isinstance(one, str) else dict(one) for one in some],
                "revision": seen.get(ident),
            }
            for ident, some in labels.items()
        ]
        body = {"samples": samples}
        answer = self._client.put(self._path(name) + "/data-annotations/samples", body)
        failed = next((r for r in answer["results"] if not r["success"]), None)
        if failed:
            raise ApiFailure(404, failed["error_code"], failed["error_msg"], "")

    def statistics(self, name: str) -> dict[str, Any]:
        """How many samples there are, by state and by label."""
        answer: dict[str, Any] = self._client.get(self._path(name) + "/data-annotations/stats")
        return answer

    def import_from(
        self, name: str, path: str, *, import_type: str = "dir", progress: Progress | None = None, **options: Any
    ) -> dict[str, Any]:
        """Import a folder (``dir``) or a manifest (``manifest``), wait for it, and return the finished task.

        `options` are further fields of the API, such as ``difficult_only=True``. Raises TaskFailed.
        """
        where = self._path(name) + "/import-tasks"
        task = self._client.post(where, {"import_path": path, "import_type": import_type, **options})
        return wait(self._client, f"{where}/{task['task_id']}", progress)

    def import_file(self, name: str, file: Path, *, progress: Progress | None = None, **options: Any) -> dict[str, Any]:
        """Import a manifest of this machine, as `import_from` one in storage; 8 MB at most, or with gzip so many."""
        where = self._path(name) + "/import-tasks"
        task = self._client.request("POST", where + "/manifest", params=options, content=file.read_bytes()).json()
        return wait(self._client, f"{where}/{task['task_id']}", progress)

    def wait_import(self, name: str, task_id: str, progress: Progress | None = None) -> dict[str, Any]:
        """Wait for an import that is under way. Raises TaskFailed."""
        return wait(self._client, f"{self._path(name)}/import-tasks/{task_id}", progress)

    def imports(self, name: str) -> Iterator[dict[str, Any]]:
        """The imports there were, the newest first."""
        return self._client.pages(self._path(name) + "/import-tasks", "import_tasks")

    def exports(self, name: str) -> Iterator[dict[str, Any]]:
        """The exports there were, the newest first."""
        return self._client.pages(self._path(name) + "/export-tasks", "export_tasks")

    def problems(self, name: str, task_id: str) -> Iterator[dict[str, Any]]:
        """What an import left out: `place`, `reason`, `text`."""
        return self._client.pages(f"{self._path(name)}/import-tasks/{task_id}/problems", "problems")

    def auto_label(
        self,
        name: str,
        *,
        task_type: str = "auto-label",
        collect_key_sample: bool = False,
        progress: Progress | None = None,
        **config: Any,
    ) -> dict[str, Any]:
        """Start an intelligent task, wait for it, and return it as it ended. Raises TaskFailed.

        :param task_type: ``auto-label``, ``pre-label`` (with ``model_id=…`` or ``model_path=…``), ``auto-grouping``.
        :param collect_key_sample: also write the hard examples as a manifest (``config``: ``key_sample_output``).
        :param config: fields of the API's ``config``, such as ``algorithm_type="fast"``, ``n_clusters=8``.
        """
        where = self._path(name) + "/tasks"
        body = {"task_type": task_type, "collect_key_sample": collect_key_sample, "config": config}
        task = self._client.post(where, body)
        return self.wait_intelligent(name, task["task_id"], progress)

    def wait_intelligent(self, name: str, task_id: str, progress: Progress | None = None) -> dict[str, Any]:
        """Wait for an intelligent task. Raises TaskFailed when it failed, or was stopped."""
        where = f"{self._path(name)}/tasks/{task_id}"
        while True:
            task: dict[str, Any] = self._client.get(where)
            if progress:
                progress(task)
            if task["status"] == 3:
                return task
            if task["status"] in (2, 5):
                raise TaskFailed(task["error_msg"] or "the task was stopped")
            time.sleep(POLL_S)

    def suggestions(self, name: str, *, sort_by: str = "sample", **filters: Any) -> Iterator[dict[str, Any]]:
        """The samples automatic labeling has labeled and nobody has confirmed: `labels` with their `score`.

        :param sort_by: ``sample``, ``score``, or ``learning``: what teaches most when labeled by hand comes first.
        :param filters: ``label_name``, ``low_score``, ``high_score``.
        """
        path = self._path(name) + "/auto-annotations/samples"
        return self._client.pages(path, "samples", {"sort_by": sort_by, **filters})

    def confirm(
        self, name: str, samples: Mapping[str, Sequence[str] | None] | None = None, **filters: Any
    ) -> dict[str, Any]:
        """Make suggestions labels. Returns how many samples were confirmed, and how many of those corrected.

        :param samples: sample id → None for the suggestion as it is, or the names of the labels it has instead.
        :param filters: without `samples`: all that match, such as ``low_score=0.9``.
        """
        path = self._path(name) + "/auto-annotations/samples/confirm"
        if samples is not None:
            body = [
                {"sample_id": ident, "labels": None if names is None else [{"name": one} for one in names]}
                for ident, names in samples.items()
            ]
            return dict(self._client.post(path, {"samples": body}))
        total: dict[str, Any] = {"confirmed_sample_count": 0}
        while True:
            answer = self._client.post(path, {"all": True, **filters})
            total["confirmed_sample_count"] += answer["confirmed_sample_count"]
            if not answer["remaining_sample_count"] or not answer["confirmed_sample_count"]:
                return total

    def discard(self, name: str, samples: Sequence[str] | None = None, **filters: Any) -> dict[str, Any]:
        """Throw the suggestions of samples away, or without `samples` of all that match."""
        path = self._path(name) + "/auto-annotations/samples/discard"
        body = {"samples": [{"sample_id": one} for one in samples]} if samples else {"all": True, **filters}
        return dict(self._client.post(path, body))

    def intelligent_tasks(self, name: str) -> Sequence[dict[str, Any]]:
        """Those that label and those that group, the newest first."""
        where = self._path(name) + "/tasks"
        found = [*self._client.pages(where, "tasks"), *self._client.pages(where, "tasks", {"type": "auto-grouping"})]
        return sorted(found, key=lambda one: -int(one["create_time"]))

    def stop_intelligent(self, name: str, task_id: str) -> None:
        """Stop a task that runs. Raises ApiFailure (409) for one that has ended."""
        self._client.post(f"{self._path(name)}/tasks/{task_id}/stop")

    def groups(self, name: str, task_id: str) -> Sequence[dict[str, Any]]:
        """The groups an ``auto-grouping`` task found, the largest first."""
        found: Sequence[dict[str, Any]] = self._client.get(f"{self._path(name)}/tasks/{task_id}/groups")["groups"]
        return found

    def label_group(self, name: str, task_id: str, group: int, *labels: str) -> int:
        """Give all unlabeled samples of a group the same labels. Returns how many there were."""
        body = {"labels": [{"name": one} for one in labels]}
        answer = self._client.put(f"{self._path(name)}/tasks/{task_id}/groups/{group}/labels", body)
        return int(answer["annotated_sample_count"])

    def export(
        self,
        name: str,
        path: str = "",
        *,
        format: str | None = None,
        keep_hard: bool = True,
        progress: Progress | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Export below a folder of object storage, wait for it, and return the finished task. Raises TaskFailed.

        :param format: ``coco``, ``yolo``, …; without one a manifest. ``export_path`` or ``manifest_path`` of the
            answer says where it is; `export_problems` what the format could not carry.
        :param options: further fields of the API, such as ``export_type=0`` (labeled samples only).
        """
        where = self._path(name) + "/export-tasks"
        params = {"clear_hard_property": not keep_hard, **options.pop("export_params", {})}
        body = {"path": path, "annotation_format": format, "export_params": params, **options}
        task = self._client.post(where, body)
        return wait(self._client, f"{where}/{task['task_id']}", progress)

    def export_to_dataset(
        self,
        name: str,
        new_name: str,
        work_path: str,
        *,
        data_path: str = "",
        version: str | None = None,
        timeout_s: float = 600,
        **params: Any,
    ) -> dict[str, Any]:
        """Make a new dataset of samples of this one, wait until it is whole, and return it. Raises TaskFailed.

        :param data_path: an empty folder the objects are copied to; without one both datasets share them.
        :param version: also publish a version of this name; `timeout_s` bounds the wait for it.
        :param params: further fields of the API's ``export_params``, such as ``samples=[…]``.
        """
        wanted = {
            "export_dest": "NEW_DATASET",
            "export_new_dataset_name": new_name,
            "export_new_dataset_work_path": work_path,
            "export_dataset_version_name": version,
            **params,
        }
        task = self.export(name, data_path, export_params=wanted)
        made = f"{_ALL}/{task['new_dataset_id']}"
        for one in self._client.get(made + "/versions")["versions"] if version else ():
            self._published(f"{made}/versions/{one['version_id']}", timeout_s)
        answer: dict[str, Any] = self._client.get(made)
        return answer

    def export_problems(self, name: str, task_id: str) -> Iterator[dict[str, Any]]:
        """What an export could not carry: `place`, `reason`."""
        return self._client.pages(f"{self._path(name)}/export-tasks/{task_id}/problems", "problems")

    def stop(self, name: str, task_id: str) -> dict[str, Any]:
        """Stop an import, whose samples stay, or an export, which leaves nothing. Raises ApiFailure (404, 409)."""
        base = self._path(name)
        try:
            answer: dict[str, Any] = self._client.post(f"{base}/import-tasks/{task_id}/stop", {})
        except ApiFailure as e:
            if e.status != 404:
                raise
            answer = self._client.post(f"{base}/export-tasks/{task_id}/stop", {})
        return answer

    def read_manifest(self, path: str) -> Iterator[SampleRecord]:
        """The samples of a manifest in object storage, such as a version's ``manifest_path``.

        Annotations that lie in PASCAL VOC files are read from there.
        """
        rest = b""
        for piece in self.objects.stream(path):
            *lines, rest = (rest + piece).split(b"\n")
            yield from self._expanded([parse_line(line) for line in lines if line.strip()])
        if rest.strip():
            yield from self._expanded([parse_line(rest)])

    def _expanded(self, records: Sequence[SampleRecord]) -> Iterator[SampleRecord]:
        from bottega_dataset.types.image import ImageSegmentation, ObjectDetection

        kinds = {kind.annotation_type: kind for kind in (ObjectDetection(), ImageSegmentation())}
        for at in range(0, len(records), _FILES_AT_ONCE):
            some = records[at : at + _FILES_AT_ONCE]
            located = {a.loc: "" for r in some for a in r.annotations if a.loc and a.type in kinds}
            if not located:
                yield from some
                continue
            with ThreadPoolExecutor(_THREADS) as threads:
                files = dict(zip(located, threads.map(self.objects.read, located), strict=True))
            for record in some:
                own = {a.loc: files[a.loc] for a in record.annotations if a.loc in files}
                yield kinds[record.annotations[0].type].expanded(record, own) if own else record

    def _path(self, name: str) -> str:
        return f"{_ALL}/{self._one(name)['dataset_id']}"

    def _one(self, name: str) -> dict[str, Any]:
        for row in self.list(contains=name):
            if row["dataset_name"] == name:
                return row
        try:
            found: dict[str, Any] = self._client.get(f"{_ALL}/{name}")
        except ApiFailure as e:
            raise ApiFailure(
                e.status, e.error_code, f"there is no dataset '{name}' in this project", e.request_id
            ) from e
        return found
