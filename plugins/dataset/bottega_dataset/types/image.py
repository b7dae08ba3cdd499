"""Images: classified as a whole, objects on them, areas of them (002 §2.1; REST types 0, 1, 3)."""

from __future__ import annotations

from collections.abc import Mapping

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.sample import SIZE, BadSample, SampleRecord
from bottega_dataset.types.classification import Classification
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE, AreaProperty, ShapeProperty, check_shape, measured
from bottega_dataset.types.located import LocatedInVoc
from bottega_dataset.types.masks import check_mask

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


class ImageClassification(Classification):
    code = 0
    name = "image_classification"
    sample_type = 0
    tags = ("Image", "Image classification")
    suffixes = IMAGE_SUFFIXES
    annotations = (AnnotationKind("image_classification", 0),)
    folder_labels = True
    layout = "The folder an image lies in is its label (Cat/10.jpg); images beside those folders are unlabeled."


class ObjectDetection(LocatedInVoc):
    """Shapes on an image, each with a label."""

    code = 1
    name = "object_detection"
    sample_type = 0
    tags = ("Image", "Object detection")
    suffixes = IMAGE_SUFFIXES
    annotations = (AnnotationKind("object_detection", 1, schema=ShapeProperty),)
    layout = "Beside each image (a.jpg) lies its PASCAL VOC file (a.xml); an image without one is unlabeled."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        size = image_size(record)
        for index, one in enumerate(record.annotations):
            assert one.property is not None
            check_shape(one.property[SHAPE], one.property[FEATURE], size, f"annotation[{index}].property")

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Shapes on the image, and the part of it that the box around one takes."""
        properties = [one.property or {} for one in record.annotations]
        return measured([(one[SHAPE], one[FEATURE]) for one in properties], image_size(record))


class ImageSegmentation(LocatedInVoc):
    """Areas of an image, each with a label: a polygon, a mask, or both."""

    code = 3
    name = "image_segmentation"
    sample_type = 0
    tags = ("Image", "Image segmentation")
    suffixes = IMAGE_SUFFIXES
    annotations = (AnnotationKind("image_segmentation", 3, schema=AreaProperty),)
    layout = ObjectDetection.layout

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        size = image_size(record)
        for index, one in enumerate(record.annotations):
            where = f"annotation[{index}].property"
            given = one.property or {}
            if SHAPE in given:
                check_shape(given[SHAPE], given[FEATURE], size, where)
            if MASK in given:
                check_mask(given[MASK], size, where)

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Areas of the image."""
        return {"areas": len(record.annotations)}


def image_size(record: SampleRecord) -> tuple[int, int] | None:
    """Width and height where the record says them. Raises BadSample when what it says is none."""
    size = (record.property or {}).get(SIZE)
    if size is None:
        return None
    if not isinstance(size, list) or len(size) not in (2, 3) or not all(type(n) is int and n > 0 for n in size):
        raise BadSample(f"property['{SIZE}'] must be [width, height, depth] in whole pixels")
    return size[0], size[1]


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [ImageClassification(), ObjectDetection(), ImageSegmentation()]
