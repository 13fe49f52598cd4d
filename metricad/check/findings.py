"""Check the files of good images, and of test images beside them, without a network."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metricad.check import duplicates, light
from metricad.check.facts import ImageFacts, read_detail, survey
from metricad.check.light import Course
from metricad.data import images
from metricad.scoring.suspects import Suspects


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Attributes
    ----------
    good, test : list of ImageFacts
        One for each file, good images in the order of their names, in which numbers count.
    exact, near : int (n,)
        Number of the group of duplicates of each image, the good ones first, then the test images; see
        `duplicates.groups`.
    courses : list of Course
        Brightness, contrast and sharpness of the readable good images.
    others : list of str
        Image files of kinds that are not read.
    skipped : Counter of str
        Number of all other files by suffix.
    suspects : Suspects or None
        Good images that look unlike the rest; their numbers are those in `usable`. None: not scored.
    """

    good: list[ImageFacts]
    test: list[ImageFacts]
    exact: np.ndarray
    near: np.ndarray
    courses: list[Course]
    others: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    suspects: Suspects | None = None

    @property
    def readable(self) -> list[ImageFacts]:
        """Readable good images."""
        return [image for image in self.good if image.problem is None]

    @property
    def unreadable(self) -> list[ImageFacts]:
        """Good and test images that cannot be read."""
        return [image for image in (*self.good, *self.test) if image.problem is not None]

    @property
    def usable(self) -> list[int]:
        """Numbers of the good images that can be fitted together: readable, with the most frequent levels,
        exact duplicates once.
        """
        kinds = Counter(image.levels for image in self.readable).most_common(1)
        first = set(np.unique(self.exact[: len(self.good)], return_index=True)[1].tolist())
        return [
            number
            for number, image in enumerate(self.good)
            if number in first and image.problem is None and image.levels == kinds[0][0]
        ]

    def sets(self, numbers: np.ndarray) -> list[list[int]]:
        """List the groups of duplicates with two or more images."""
        members: dict[int, list[int]] = {}
        for number, group in enumerate(numbers.tolist()):
            members.setdefault(group, []).append(number)
        return [group for group in members.values() if len(group) > 1]

    @property
    def leaks(self) -> list[int]:
        """Numbers of test images that are exact or near duplicates of a good image, counted after these."""
        known = set(self.near[: len(self.good)].tolist())
        return [len(self.good) + k for k, own in enumerate(self.near[len(self.good) :]) if int(own) in known]

    def name(self, number: int) -> str:
        """Return the path of an image by its number."""
        return (*self.good, *self.test)[number].path

    def to_dict(self) -> dict[str, Any]:
        """Return everything found, for JSON."""
        found: dict[str, Any] = {
            "good": [asdict(image) for image in self.good],
            "test": [asdict(image) for image in self.test],
            "exact_groups": self.exact.tolist(),
            "near_groups": self.near.tolist(),
            "leaks": [self.name(number) for number in self.leaks],
            "other_kinds": self.others,
            "skipped": dict(self.skipped),
            "light": [
                {
                    "quantity": course.quantity,
                    "apart": [self.readable[number].path for number in course.apart],
                    "drift": course.drift,
                }
                for course in self.courses
            ],
            "suspects": None,
        }
        if self.suspects is not None:
            paths = [self.good[number].path for number in self.usable]
            found["suspects"] = [paths[number] for number in self.suspects.numbers]
            found["doubtful"] = [paths[number] for number in self.suspects.doubtful]
            found["scores"] = [
                {"path": path, "score": float(score), "distance": float(distance)}
                for path, score, distance in zip(
                    paths, self.suspects.scores, self.suspects.distances, strict=True
                )
            ]
        return found


@dataclass(frozen=True)
class Shown:
    """One image of the contact sheet.

    Attributes
    ----------
    path : str
    distance : float
        How far its score is above the median, see `suspects.distances`.
    is_suspect : bool
    image : float32 (H, W) or (H, W, 3) in [-1, 1]
    anomaly_map : float32 (H, W)
        By a detector that was fitted to the images that are not shown.
    """

    path: str
    distance: float
    is_suspect: bool
    image: np.ndarray
    anomaly_map: np.ndarray


def check(
    good: Sequence[str | os.PathLike[str]],
    test: Sequence[str | os.PathLike[str]] = (),
    *,
    bits: int | None = None,
    page: int | None = None,
    others: Sequence[str | os.PathLike[str]] = (),
    skipped: Counter[str] | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Findings:
    """Look at all files and find duplicates, drift and images apart; suspects are not scored.

    Parameters
    ----------
    good, test : sequence of path
        Image files.
    bits, page : int, optional
        As in `images.find_levels`.
    others, skipped : optional
        What a search left out, see `images.Found`.
    on_image : function, optional
        Called after each image, for a progress bar.
    """
    ordered = sorted(map(Path, good), key=images.by_numbers)
    surveyed = survey([*ordered, *test], bits=bits, page=page, on_image=on_image)
    exact, near = duplicates.groups(surveyed, read_detail=partial(read_detail, page=page))
    own, other = surveyed.all[: len(ordered)], surveyed.all[len(ordered) :]
    courses = light.follow([image for image in own if image.problem is None])
    return Findings(own, other, exact, near, courses, [str(path) for path in others], skipped or Counter())
