"""The contracts of a dataset type and of reading folders, with point clouds."""

import json
from collections.abc import Mapping

from bottega_dataset.conformance import DatasetTypeContract, ImporterContract
from bottega_dataset.sample import Annotation

CAR = {"center": [1.0, 2.0, 0.5], "size": [4.2, 1.8, 1.5], "yaw": 0.1}


class TestPointClouds(DatasetTypeContract):
    code = 910
    sources = ("s3://{bucket}/a.pcd", "s3://{bucket}/b.ply")
    misfit = "s3://{bucket}/a.png"
    good = (Annotation("cuboid", "car", CAR), Annotation("cuboid", "car", CAR))
    bad = (Annotation("cuboid", "car", {**CAR, "size": [4.2, -1, 1.5]}),), "size"


class TestFolder(ImporterContract):
    import_type = "dir"
    code = 910

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        said = json.dumps([{"label": self.label, **CAR}]).encode()
        clouds = {f"{n}.pcd": b"x" for n in range(samples)} | {f"{n}.json": said for n in range(samples)}
        return clouds | {f"{n}.doc": b"x" for n in range(flaws)}
