"""Register rigid parts: find the part in an image by its outline, align the image, map results back.

It uses the generalized Hough transform in Ballard's form (1981) from OpenCV, which is imported when needed.
Each edge pixel of the image votes for the center of the part, depending on the direction of its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from metricad.data import images as image_files
from metricad.errors import DataError, MetricadError

_LEVELS = 36  # number of bins for the gradient's direction; wide enough for camera noise
_CELL = 3.0  # size of a cell of the vote accumulator, in pixels
_SMOOTHING = 1.5  # standard deviation, in pixels, of the blur before edge detection
_HYPOTHESES = 3  # number of angles with the most votes that are refined
_APART = 20  # smallest difference between these angles, in degrees
_REFINEMENT = (3, 100, 1e-5)  # steps, and smallest increase of the correlation, before the refinement stops
_EQUAL = 1e-3  # correlations with a smaller difference belong to the same pose
_FEWEST_EDGES = 30


@dataclass(frozen=True)
class Pose:
    """Position and rotation of the part in an image.

    Attributes
    ----------
    matrix : float64 (2, 3)
        Transform from a pixel (column, row, 1) of the reference to the same point in the image.
    confidence : float in [0, 1]
        Correlation of the aligned image with the reference. 0 if the part was not found; then the matrix is
        the identity.
    votes : float
        Votes of the Hough transform for this pose, divided by those of the reference for its own pose. It is
        near 1 if the whole outline is visible.
    reference_shape, image_shape : (int, int)
    """

    matrix: np.ndarray
    confidence: float
    votes: float
    reference_shape: tuple[int, int]
    image_shape: tuple[int, int]

    @property
    def angle(self) -> float:
        """Rotation of the image against the reference, in degrees, (-180, 180], from columns toward rows."""
        return _angle(self.matrix)

    def align(self, image: np.ndarray) -> np.ndarray:
        """Align the image (H, W) to the reference: float32 with the reference's shape.

        Pixels outside the image get the values of its border.
        """
        cv2 = _opencv()
        self._check(image.shape, self.image_shape, "the image that was registered")
        return _warp(cv2, image, self.matrix, self.reference_shape, cv2.BORDER_REPLICATE)

    def undo(self, aligned: np.ndarray) -> np.ndarray:
        """Transform a map of the aligned image back to the pixels of the image: float32 (H, W).

        Pixels that are not visible in the reference are 0, because nothing is known about them.
        """
        cv2 = _opencv()
        self._check(aligned.shape, self.reference_shape, "the reference")
        return _warp(cv2, aligned, _inverse(self.matrix), self.image_shape, cv2.BORDER_CONSTANT)

    @staticmethod
    def _check(shape: tuple[int, int], expected: tuple[int, int], whose: str) -> None:
        if tuple(shape) != tuple(expected):
            raise ValueError(f"expected the shape of {whose}, {expected}, received {shape}")


class Reference:
    """An image of a part to which other images are registered: shifted and rotated, not scaled.

    The outline is rotated in steps over all allowed angles. OpenCV's generalized Hough transform searches
    each of them. The angles with the most votes are refined to subpixel accuracy by OpenCV's maximization of
    the enhanced correlation coefficient (Evangelidis and Psarakis, 2008); the best is used. If a part looks
    the same at several angles, any of them may be found.

    Parameters
    ----------
    image : float32 (H, W) in [-1, 1]
        Image that shows the whole part.
    largest_angle : float in [0, 180]
        Largest rotation of parts in both directions, in degrees.
    step : float
        Step between the tested angles, in degrees.
    thresholds : (int, int)
        Thresholds of Canny's edge detector, in 8-bit gray levels of the gradient.
    side : int
        Length of the reference's longer side, in pixels, for the search; larger images are shrunk.

    Raises
    ------
    ValueError
        A setting is outside its range.
    DataError
        The image has too few edges to be registered to.
    MetricadError
        OpenCV is not installed.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        largest_angle: float = 180,
        step: float = 4,
        thresholds: tuple[int, int] = (50, 100),
        side: int = 256,
    ) -> None:
        if not 0 <= largest_angle <= 180:
            raise ValueError(f"largest_angle must lie in [0, 180], received {largest_angle}")
        if not step > 0:
            raise ValueError(f"step must be above 0, received {step}")
        if not 0 < thresholds[0] < thresholds[1]:
            raise ValueError(f"thresholds must be above 0, the lower one first, received {thresholds}")
        if side < 32:
            raise ValueError(f"side must be at least 32, received {side}")
        self.shape = image.shape
        self._cv2 = _opencv()
        self._thresholds = thresholds
        self._scale = min(1.0, side / max(image.shape))
        self._small = self._shrunk(image)
        self._middle = np.array([(side - 1) / 2 for side in self._small.shape[::-1]])
        edges, *gradient = self._edges(self._small)
        self._rows, self._columns = np.nonzero(edges)
        if len(self._rows) < _FEWEST_EDGES:
            raise DataError(
                f"the reference has {len(self._rows)} pixels of edges, too few to register images to; "
                "expected a part with a clear outline: lower the thresholds or leave out the registration"
            )
        self._gradient = np.stack([part[self._rows, self._columns] for part in gradient])
        self._own_votes, _ = self._vote(0, (edges, *gradient))
        self._largest_angle = largest_angle + step  # limit after the refinement
        reach = math.floor(largest_angle / step)
        # For a full circle, the last angle equals the first.
        angles = step * np.arange(-reach, reach + 1)
        self._angles = angles[angles > -180] if largest_angle == 180 else angles

    def register(self, image: np.ndarray) -> Pose:
        """Find the part in an image (H, W) in [-1, 1]; if it is not found, the confidence is 0."""
        small = self._shrunk(image)
        best = (0.0, 0.0, np.eye(2, 3))
        # In descending order of votes: of two that are refined to the same pose the first is kept.
        for votes, matrix in self._hypotheses(small):
            correlation, refined = self._refine(small, matrix)
            if correlation > best[0] + _EQUAL and abs(_angle(refined)) <= self._largest_angle:
                best = (correlation, votes, refined)
        confidence, votes, matrix = best
        return Pose(self._enlarged(matrix, image.shape), confidence, votes, self.shape, image.shape)

    def _hypotheses(self, small: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Return votes and matrices of the angles with the most votes, in descending order of votes."""
        edges = self._edges(small)
        found = []
        for angle in self._angles:
            votes, place = self._vote(angle, edges)
            if votes:
                found.append((votes / self._own_votes, float(angle), place))
        found.sort(key=lambda hypothesis: -hypothesis[0])
        # Neighboring angles have nearly the same votes and would be refined to the same pose, so keep angles
        # apart.
        chosen: list[tuple[float, float, np.ndarray]] = []
        for share, angle, place in found:
            if len(chosen) < _HYPOTHESES and all(_between(angle, other) >= _APART for _, other, _ in chosen):
                chosen.append((share, angle, place))
        return [(share, self._matrix(angle, place)) for share, angle, place in chosen]

    def _vote(self, angle: float, edges: tuple[np.ndarray, ...]) -> tuple[int, np.ndarray]:
        """Return the most votes for the center of the rotated outline, and its position (column, row)."""
        hough = self._cv2.createGeneralizedHoughBallard()
        hough.setLevels(_LEVELS)
        hough.setDp(_CELL)
        hough.setVotesThreshold(1)
        hough.setTemplate(*self._turned(angle))
        # Named arguments: three positional arrays would be read as an image and two outputs.
        positions, votes = hough.detect(edges=edges[0], dx=edges[1], dy=edges[2])
        if votes is None:
            return 0, np.zeros(2)
        most = int(votes[0, :, 0].argmax())
        return int(votes[0, most, 0]), positions[0, most, :2].astype(np.float64)

    def _refine(self, small: np.ndarray, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Refine a matrix by a small shift and rotation to the best correlation; return both."""
        cv2 = self._cv2
        # Starts from the aligned image, because OpenCV's method only works for less than a quarter turn.
        aligned = _warp(cv2, small, matrix, self._small.shape, cv2.BORDER_REPLICATE)
        start = np.eye(2, 3, dtype=np.float32)
        try:
            correlation, rest = cv2.findTransformECC(
                self._small, aligned, start, cv2.MOTION_EUCLIDEAN, _REFINEMENT, None, 5
            )
        except cv2.error:  # no convergence: another part, or no part
            return 0.0, matrix
        return min(float(correlation), 1.0), _product(matrix, rest.astype(np.float64))

    def _turned(self, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
        """Rotate the outline about the image's center; return it in the form of `_edges`, and that center.

        Points are rotated, not pixels: so nothing is interpolated, and the image border makes no edges.
        """
        turn = _rotation(angle)
        half = math.ceil(math.hypot(*self._small.shape) / 2) + 1
        points = turn @ (np.stack([self._columns, self._rows]) - self._middle[:, np.newaxis])
        columns, rows = np.floor(points + half + 0.5).astype(int)  # rint would merge pixels at halves
        along_x, along_y = turn @ self._gradient
        edges = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
        gradient_x, gradient_y = (np.zeros(edges.shape, np.float32) for _ in range(2))
        edges[rows, columns] = 255
        gradient_x[rows, columns], gradient_y[rows, columns] = along_x, along_y
        return edges, gradient_x, gradient_y, (half, half)

    def _matrix(self, angle: float, place: np.ndarray) -> np.ndarray:
        """Make the matrix from the shrunk reference to a rotated part with its center at (column, row)
        `place`.
        """
        turn = _rotation(angle)
        return np.column_stack([turn, place - turn @ self._middle])

    def _edges(self, small: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute Canny's edges, uint8, and the gradient along columns and rows, float32."""
        cv2 = self._cv2
        levels = cv2.GaussianBlur(image_files.to_uint8(small), (0, 0), _SMOOTHING)
        along_x, along_y = (cv2.Sobel(levels, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        return cv2.Canny(levels, *self._thresholds), along_x, along_y

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image_files.resize(image, self._shrunk_shape(image.shape)))

    def _enlarged(self, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Convert a matrix of shrunk images to the same transform between the images at full size."""
        to_small = _inverse(_enlargement(self._small.shape, self.shape))
        return _product(_enlargement(self._shrunk_shape(shape), shape), _product(matrix, to_small))

    def _shrunk_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return tuple(max(1, round(side * self._scale)) for side in shape)


class Registration:
    """Registration to the first good image, if it is asked for.

    Parameters
    ----------
    is_on : bool
        Whether images are registered.
    minimum_confidence : float in [0, 1]
        Smallest confidence of a registration, see `Pose`. Below it a good image is refused, and a later image
        is judged without registration.
    largest_angle : float
        Largest rotation of parts relative to the first, in both directions, in degrees.

    Raises
    ------
    ValueError
        A setting is outside its range.
    """

    def __init__(self, is_on: bool, *, minimum_confidence: float, largest_angle: float) -> None:
        if not 0 <= minimum_confidence <= 1:
            raise ValueError(f"minimum_confidence must lie in [0, 1], received {minimum_confidence}")
        if not 0 <= largest_angle <= 180:
            raise ValueError(f"largest_angle must lie in [0, 180], received {largest_angle}")
        self.is_on = is_on
        self._least = minimum_confidence
        self._largest_angle = largest_angle
        self.reference: Reference | None = None
        self._first: np.ndarray | None = None

    def fit(self, good: list[np.ndarray]) -> list[np.ndarray]:
        """Return good images registered to the first; unchanged if it is off.

        Raises
        ------
        DataError
            The first has too few edges, or another one cannot be registered to it.
        MetricadError
            OpenCV is not installed.
        """
        if not self.is_on or not good:
            return good
        reference = self._refer_to(good[0])
        found = []
        for number, image in enumerate(good, start=1):
            pose = reference.register(image)
            if not self._is_found(pose):
                raise DataError(
                    f"good image {number} cannot be registered to the first: confidence "
                    f"{pose.confidence:.2f}, expected at least {self._least}; leave it out, or fit without "
                    "registration"
                )
            found.append(pose.align(image))
        return found

    def register(self, image: np.ndarray) -> Pose | None:
        """Find the part in an image; None if it is off."""
        return None if self.reference is None else self.reference.register(image)

    def find(self, image: np.ndarray) -> Pose | None:
        """Find the part in an image; None if it is off, or if the part is not found."""
        pose = self.register(image)
        return pose if pose is not None and self._is_found(pose) else None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the reference, if there is one."""
        return {} if self._first is None else {"reference": self._first}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take what `arrays` returned."""
        if self.is_on:
            self._refer_to(arrays["reference"])

    def _refer_to(self, image: np.ndarray) -> Reference:
        self._first = image
        self.reference = Reference(image, largest_angle=self._largest_angle)
        return self.reference

    def _is_found(self, pose: Pose) -> bool:
        return pose.confidence > 0 and pose.confidence >= self._least


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MetricadError(
            f"registration needs OpenCV, which cannot be imported ({error}); install it with: "
            "pip install 'metricad[registration]'"
        ) from error
    return cv2


def _warp(
    cv2: ModuleType, image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], border: int
) -> np.ndarray:
    """Transform an image, float32: pixel p of the result is the image at matrix · p, interpolated
    linearly.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    source = np.ascontiguousarray(image, np.float32)
    return cv2.warpAffine(source, matrix, shape[::-1], flags=flags, borderMode=border, borderValue=0)


def _rotation(angle: float) -> np.ndarray:
    """Make the rotation matrix for degrees from columns toward rows: float64 (2, 2)."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cosine, -sine], [sine, cosine]])


def _angle(matrix: np.ndarray) -> float:
    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))


def _between(angle: float, other: float) -> float:
    """Compute the difference of two angles in degrees, 0 to 180."""
    return abs((angle - other + 180) % 360 - 180)


def _enlargement(small: tuple[int, int], large: tuple[int, int]) -> np.ndarray:
    """Make the matrix from pixels of a shrunk image to those of the full image: float64 (2, 3)."""
    rows, columns = (whole / part for whole, part in zip(large, small, strict=True))
    return np.array([[columns, 0, (columns - 1) / 2], [0, rows, (rows - 1) / 2]])


def _product(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Compose two affine transforms (2, 3); `first` is applied first."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _inverse(matrix: np.ndarray) -> np.ndarray:
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])
