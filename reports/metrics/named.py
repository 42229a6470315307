"""Metrics whose names hold a number or a class, such as "images_under.50" and "person.iou"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from segbench.reports.metrics import boundary, images
from segbench.reports.metrics.metric import Metric, of_each_image
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.statistics import class_iou


def class_accuracy(tallied: Tallied) -> images.Floats:
    """Return the share of every class's pixels that are right, (C,); a class without pixels has NaN or 0."""
    right, _, true = tallied.counts.sum(0).astype(np.float64)
    missing = np.nan if tallied.absent == "skip" else 0.0
    share: images.Floats = np.divide(right, true, out=np.full(true.shape, missing), where=true > 0)
    return share


def mean_ious(tallied: Tallied) -> images.Floats:
    """Return the mean IoU of every image that is not void, (M,)."""
    return images.image_iou(tallied.counts)


def class_ious(tallied: Tallied) -> images.Floats:
    """Return the IoU of every class on every image, (N, C); NaN where the class is not in the truth."""
    return images.class_image_iou(tallied.counts)


def image_percentile(rank: float) -> Metric:
    """Return the metric of a percentile of the images' mean IoU."""
    return of_each_image(
        f"p{rank:g}_image_iou",
        f"p{rank:g} image IoU",
        f"Mean IoU of an image that {rank:g} % of the images do not reach.",
        mean_ious,
        partial(images.percentile, rank=rank),
    )


def worst_images(share: float) -> Metric:
    """Return the metric of the images with the lowest mean IoU."""
    return of_each_image(
        f"worst{share:g}_image_iou",
        f"worst {share:g} % image IoU",
        f"Mean over the worst {share:g} % of the images of their mean IoU.",
        mean_ious,
        partial(images.lowest, share=share),
    )


def worst_images_of_classes(share: float) -> Metric:
    """Return the metric of the images with the lowest IoU of each class."""
    return of_each_image(
        f"worst{share:g}_class_image_iou",
        f"worst {share:g} % class image IoU",
        f"Mean over classes of their mean IoU on the worst {share:g} % of the images that hold them.",
        class_ious,
        partial(images.mean_of_classes, share=share),
    )


def images_under(floor: float) -> Metric:
    """Return the metric of images under a floor."""
    return of_each_image(
        f"images_under.{floor:g}",
        f"images under {floor:g}",
        f"Share of the images whose mean IoU is under {floor:g} %.",
        mean_ious,
        partial(images.under, floor=floor / 100),
        higher=False,
    )


_NUMBERED: tuple[tuple[str, Callable[[float], Metric]], ...] = (
    (r"p(\d+(?:\.\d+)?)_image_iou", image_percentile),
    (r"worst(\d+(?:\.\d+)?)_image_iou", worst_images),
    (r"worst(\d+(?:\.\d+)?)_class_image_iou", worst_images_of_classes),
    (r"images_under\.(\d+(?:\.\d+)?)", images_under),
)


def numbered(name: str) -> Metric | None:
    """Return a metric that is named with a number from 0 to 100, or None."""
    for pattern, make in _NUMBERED:
        found = re.fullmatch(pattern, name) if len(name) < 100 else None
        if found and 0 < float(found[1]) <= 100:
            return make(float(found[1]))
    return None


ENDINGS: dict[str, tuple[str, str, str, Callable[[Tallied], images.Floats]]] = {
    "iou": ("IoU", "IoU of {}.", "counts", lambda t: class_iou(t.counts.sum(0), "skip")),
    "acc": ("accuracy", "Share of the pixels of {} that are right.", "counts", lambda t: class_accuracy(t)),
    "boundary_iou": (
        "boundary IoU",
        "Boundary IoU of {}.",
        "boundary",
        lambda t: boundary.boundary_class_iou(t.tallies["boundary"]),
    ),
    "nsd": (
        "NSD",
        "Normalised surface distance of {}.",
        "boundary",
        lambda t: boundary.surface_agreement(t.tallies["boundary"]),
    ),
}


def of_class(name: str, classes: Sequence[str]) -> Metric | None:
    """Return a metric of one class, or None."""
    owner, dot, ending = name.rpartition(".")
    if not dot or ending not in ENDINGS or owner not in classes:
        return None
    heading, sentence, family, values = ENDINGS[ending]
    place = list(classes).index(owner)
    return Metric(
        name, f"{owner} {heading}", sentence.format(owner), True, family, lambda t: 100 * float(values(t)[place])
    )
