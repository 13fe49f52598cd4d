"""A sequence of images reads each image at access, and no other."""

from functools import partial

import numpy as np
import pytest

from metricad.data.sequence import ImageSequence


def test_images_are_read_at_access():
    read, counted = [], []

    def image(number):
        read.append(number)
        return np.full((2, 2), number, np.float32)

    items = ((f"{number}.png", partial(image, number)) for number in range(3))
    made = ImageSequence(items, on_image=lambda: counted.append(1))
    assert (len(made), made.name(1), read) == (3, "1.png", [])
    assert made[-1][0, 0] == 2
    assert [one[0, 0] for one in made[1:]] == [1, 2]
    assert [one[0, 0] for one in made] == [0, 1, 2]
    assert read == [2, 1, 2, 0, 1, 2]
    assert len(counted) == len(read)
    with pytest.raises(IndexError):
        made[3]
