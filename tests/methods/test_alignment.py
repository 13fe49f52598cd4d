"""Registration: rotations and shifts that are known come back, and maps go back to where they were."""

import sys

import numpy as np
import pytest
import skimage
from scipy import ndimage

from metricad.errors import DataError, MetricadError
from metricad.methods import alignment
from metricad.methods.alignment import Reference

SHAPE = (112, 136)
CENTER = np.array([(side - 1) / 2 for side in SHAPE[::-1]])  # column, row


def part(angle=0.0, shift=(0.0, 0.0), *, shape=SHAPE, noise=0.02, seed=0):
    """Draw a bracket with a hole, turned about the image's centre, then shifted by (columns, rows).

    By an implicit drawing at four times the resolution, without OpenCV.
    """
    fine = 4
    rows, columns = (np.mgrid[: fine * shape[0], : fine * shape[1]] + 0.5) / fine - 0.5
    x, y = columns - CENTER[0] - shift[0], rows - CENTER[1] - shift[1]
    turn = np.radians(-angle)
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    plate = (np.abs(x) < 34) & (np.abs(y) < 18) & (x + y < 38)
    image = np.where(plate, 0.5, -0.5)
    image[(x - 12) ** 2 + y**2 < 49] = -0.2
    image[(np.abs(x + 20) < 6) & (np.abs(y + 4) < 9)] = 0
    image = skimage.transform.downscale_local_mean(image, (fine, fine))
    image += noise * np.random.default_rng(seed).standard_normal(shape)
    return np.clip(image, -1, 1).astype(np.float32)


def moved(point, angle, shift):
    """Where a pixel (column, row) of the reference lies after this rotation and shift."""
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return matrix @ (np.asarray(point, float) - CENTER) + CENTER + shift


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("cv2")
    return Reference(part())


@pytest.mark.parametrize(
    ("angle", "shift"),
    [(0, (0, 0)), (0, (9.5, -6)), (25, (0, 0)), (-72, (-8, 5.5)), (118.5, (6, 7)), (179, (-4, -9))],
)
def test_a_known_rotation_and_shift_come_back(reference, angle, shift):
    pose = reference.register(part(angle, shift, seed=1))
    assert abs((pose.angle - angle + 180) % 360 - 180) < 0.3
    for corner in ((40, 40), (95, 70)):
        found = pose.matrix @ [*corner, 1]
        np.testing.assert_allclose(found, moved(corner, angle, shift), atol=0.5)
    assert pose.confidence > 0.97
    assert 0.4 < pose.votes < 1.3


def test_large_images_are_searched_small_and_placed_at_their_own_size():
    pytest.importorskip("cv2")
    small = Reference(part(), side=100)
    angle, shift = -40, (5, -7)
    pose = small.register(part(angle, shift, seed=1))
    for corner in ((40, 40), (95, 70)):
        np.testing.assert_allclose(pose.matrix @ [*corner, 1], moved(corner, angle, shift), atol=0.7)


def test_an_aligned_image_looks_like_the_reference(reference):
    pose = reference.register(part(50, (6, -4), seed=1))
    aligned = pose.align(part(50, (6, -4), seed=1))
    assert aligned.shape == SHAPE
    assert aligned.dtype == np.float32
    assert np.abs(aligned - part())[10:-10, 10:-10].mean() < 0.04
    assert np.abs(part(50, (6, -4), seed=1) - part())[10:-10, 10:-10].mean() > 0.15


def test_a_map_goes_back_to_the_pixels_it_is_of(reference):
    """A mark on the image, seen on the aligned image, is undone to where it was."""
    angle, shift = 65, (7, -5)
    image = part(angle, shift, seed=1)
    column, row = moved((58, 50), angle, shift)
    mark = np.zeros(SHAPE, np.float32)
    mark[round(row) - 2 : round(row) + 3, round(column) - 2 : round(column) + 3] = 1
    pose = reference.register(image)
    aligned = pose.align(mark)
    np.testing.assert_allclose(ndimage.center_of_mass(aligned), (50, 58), atol=1)
    undone = pose.undo(aligned)
    assert undone.shape == SHAPE
    assert undone.dtype == np.float32
    np.testing.assert_allclose(ndimage.center_of_mass(undone), ndimage.center_of_mass(mark), atol=0.1)
    assert undone.sum() == pytest.approx(25, rel=0.05)


def test_undoing_undoes_aligning_where_the_reference_reaches(reference):
    image = ndimage.gaussian_filter(part(30, (4, 4), seed=1), 1.5)
    pose = reference.register(part(30, (4, 4), seed=1))
    seen = pose.undo(np.ones(SHAPE, np.float32))
    assert set(np.unique(seen[30:-30, 30:-30])) == {1}
    assert seen[0, 0] == 0  # turned out of the reference's view
    np.testing.assert_allclose(pose.undo(pose.align(image))[seen == 1], image[seen == 1], atol=0.1)


def test_images_may_have_another_size_than_the_reference(reference):
    shift = (10, 4)
    image = part(15, shift, shape=(130, 170), seed=1)
    pose = reference.register(image)
    np.testing.assert_allclose(pose.matrix @ [60, 50, 1], moved((60, 50), 15, shift), atol=0.5)
    assert pose.align(image).shape == SHAPE
    assert pose.undo(np.zeros(SHAPE, np.float32)).shape == (130, 170)


def test_without_the_part_there_is_no_confidence(reference):
    flat = reference.register(np.zeros(SHAPE, np.float32))
    assert (flat.confidence, flat.votes) == (0, 0)
    assert np.array_equal(flat.matrix, np.eye(2, 3))
    noise = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
    assert reference.register(noise).confidence < 0.3


def test_a_defect_on_the_part_lowers_the_confidence_and_moves_nothing(reference):
    image = part(20, (3, -2), seed=1)
    marked = image.copy()
    column, row = np.rint(moved((80, 62), 20, (3, -2))).astype(int)
    marked[row - 4 : row + 4, column - 4 : column + 4] = 1
    clean, spoiled = reference.register(image), reference.register(marked)
    assert spoiled.confidence < clean.confidence
    corner = [40, 40, 1]
    np.testing.assert_allclose(spoiled.matrix @ corner, clean.matrix @ corner, atol=0.6)


def test_angles_beyond_the_largest_are_not_tried():
    pytest.importorskip("cv2")
    narrow = Reference(part(), largest_angle=20)
    assert narrow.register(part(15, seed=1)).confidence > 0.97
    far = narrow.register(part(90, seed=1))
    assert far.confidence < 0.9
    assert abs(far.angle) <= 24
    still = Reference(part(), largest_angle=0)
    assert still.register(part(0, (5, 5), seed=1)).confidence > 0.97


def test_shapes_are_checked(reference):
    pose = reference.register(part())
    with pytest.raises(ValueError, match="shape of the image that was registered"):
        pose.align(np.zeros((5, 5), np.float32))
    with pytest.raises(ValueError, match="shape of the reference"):
        pose.undo(np.zeros((5, 5), np.float32))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"largest_angle": 181}, "largest_angle must lie in"),
        ({"step": 0}, "step must be above 0"),
        ({"thresholds": (100, 50)}, "thresholds must be above 0"),
        ({"side": 16}, "side must be at least 32"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Reference(part(), **wrong)


def test_a_reference_without_an_outline_is_refused():
    pytest.importorskip("cv2")
    with pytest.raises(DataError, match="too few to register images to"):
        Reference(np.zeros(SHAPE, np.float32))


def test_without_opencv_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MetricadError, match=r"pip install 'metricad\[registration\]'"):
        Reference(part())


def test_opencv_is_imported_only_when_it_is_used():
    assert not hasattr(alignment, "cv2")
