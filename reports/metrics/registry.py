"""All metrics by name: what a report may show, a baseline may hold and a gate may ask for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from segbench.reports.metrics import boundary, confidence, images, objects
from segbench.reports.metrics.metric import Metric, confident, counted, of_each_image, of_objects, outlined
from segbench.reports.metrics.named import (
    ENDINGS,
    class_accuracy,
    class_ious,
    image_percentile,
    images_under,
    mean_ious,
    numbered,
    of_class,
    worst_images,
    worst_images_of_classes,
)
from segbench.reports.metrics.tallied import Tallied
from segbench.reports.statistics import class_iou, mean_iou

__all__ = ["STANDARD", "Metric", "is_metric", "measured", "metric"]


def metric(name: str, classes: Sequence[str] = ()) -> Metric:
    """Return a metric by its name.

    Beside the names in `STANDARD` there are, for any number: "images_under.N", "pN_image_iou", "worstN_image_iou" and
    "worstN_class_image_iou"; and for any class "CLASS.iou", "CLASS.acc", "CLASS.boundary_iou" and "CLASS.nsd".

    Args:
        name: the name.
        classes: names of the classes; the class of "person.iou" is looked for among them.

    Raises:
        ValueError: there is no such metric, or no such class.
    """
    known = _BY_NAME.get(name) or numbered(name) or of_class(name, classes)
    if known is None:
        names = [*_BY_NAME, *(f"{own}.iou" for own in classes)]
        near = difflib.get_close_matches(name, names, n=1)
        guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(_BY_NAME)}, and CLASS.iou for a class"
        raise ValueError(f"no metric is called {name[:100]!r}; {guess}")
    return known


def is_metric(name: str) -> bool:
    """Whether a name can be that of a metric; a class in it is not looked for."""
    return name in _BY_NAME or numbered(name) is not None or any(name.endswith(f".{end}") for end in ENDINGS)


def measured(tallied: Tallied) -> dict[str, float | None]:
    """Return the value of every standard metric whose counts there are, by its name.

    Args:
        tallied: the counts of an evaluation.
    """
    there = ("counts", *tallied.tallies)
    return {own.name: own.on(tallied) for own in STANDARD if own.family in there}


def _standard() -> Iterable[Metric]:
    yield counted(
        "miou", "mIoU", "Mean over classes of their IoU.", lambda t: float(mean_iou(t.counts.sum(0), t.absent))
    )
    yield counted(
        "macc",
        "mAcc",
        "Mean over classes of the share of their pixels that are right.",
        lambda t: boundary.class_mean(class_accuracy(t)),
    )
    yield counted("aacc", "aAcc", "Share of the pixels that are right.", _pixel_accuracy)
    yield counted("worst_class_iou", "worst class IoU", "IoU of the class whose IoU is lowest.", _lowest_class)
    yield of_each_image(
        "image_iou",
        "image IoU",
        "Mean over images of their mean IoU over the classes that they hold (mIoU^I).",
        mean_ious,
        partial(images.lowest, share=100),
    )
    yield of_each_image(
        "class_image_iou",
        "class image IoU",
        "Mean over classes of their mean IoU over the images that hold them (mIoU^C).",
        class_ious,
        images.mean_of_classes,
    )
    yield image_percentile(5)
    yield of_each_image(
        "worst_image_iou",
        "worst image IoU",
        "Mean IoU of the worst image.",
        mean_ious,
        lambda values: float(values.min()) if len(values) else np.nan,
    )
    yield worst_images(5)
    yield worst_images_of_classes(5)
    yield images_under(50)
    yield confident(
        "ece", "ECE", "Mean distance of confidence from accuracy, over 20 bins of confidence.", confidence.ece
    )
    yield confident("mce", "MCE", "Largest distance of confidence from accuracy in one of 20 bins.", confidence.mce)
    yield confident(
        "brier",
        "Brier",
        "Mean squared distance of the probabilities of all classes from the truth.",
        confidence.brier,
        most=2.0,
    )
    yield confident(
        "auroc_error",
        "AUROC of errors",
        "Probability that a right pixel is more confident than a wrong one.",
        confidence.auroc_error,
        higher=True,
    )
    yield confident(
        "aurc", "AURC", "Share of wrong pixels among the most confident, averaged over all coverages.", confidence.aurc
    )
    yield outlined(
        "boundary_iou",
        "boundary IoU",
        "Mean over classes of the IoU of bands along their outlines, 2 % of the image's diagonal wide.",
        lambda counts: boundary.class_mean(boundary.boundary_class_iou(counts)),
    )
    for width in boundary.WIDTHS:
        yield outlined(
            f"trimap_iou.{width}",
            f"trimap IoU, {width} px",
            f"Mean over classes of their IoU within {width} pixels of true boundaries.",
            lambda counts, width=width: boundary.class_mean(boundary.trimap_class_iou(counts, width)),
        )
    yield outlined(
        "nsd",
        "NSD",
        "Mean over classes of the share of outlines that lie within 3 pixels of each other.",
        lambda counts: boundary.class_mean(boundary.surface_agreement(counts)),
    )
    for size in objects.SIZES:
        yield of_objects(
            f"recall.{size}",
            f"recall, {size}",
            f"Share of the pixels of {size} objects that are right.",
            partial(objects.recall, size=size),
        )
    for size in objects.SIZES:
        yield of_objects(
            f"found.{size}",
            f"found, {size}",
            f"Share of the {size} objects of which at least half is right.",
            partial(objects.found, size=size),
        )


def _pixel_accuracy(tallied: Tallied) -> float:
    right, _, true = tallied.counts.sum((0, 2)).astype(np.float64)
    return float(right / true) if true else np.nan


def _lowest_class(tallied: Tallied) -> float:
    iou = class_iou(tallied.counts.sum(0), "skip")
    return float(np.nanmin(iou)) if not np.isnan(iou).all() else np.nan


STANDARD: tuple[Metric, ...] = tuple(_standard())
"""The metrics that every record holds, as far as their counts were tallied."""

_BY_NAME = {own.name: own for own in STANDARD}
