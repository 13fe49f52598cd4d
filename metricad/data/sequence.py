"""A sequence of images that are read at each access."""

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np


class ImageSequence(Sequence[np.ndarray]):
    """Sequence of images that reads each image when it is accessed, so that only one is in memory.

    Parameters
    ----------
    items : iterable of (str, function)
        Name of each image, and a function that reads it: float32 (H, W) or (H, W, 3) in [-1, 1].
    on_image : function, optional
        Called after each image, for a progress bar.
    """

    def __init__(
        self,
        items: Iterable[tuple[str, Callable[[], np.ndarray]]],
        *,
        on_image: Callable[[], object] = lambda: None,
    ) -> None:
        self._items, self._on_image = list(items), on_image

    def __len__(self) -> int:
        return len(self._items)

    def name(self, number: int) -> str:
        """Return the name of an image."""
        return self._items[number][0]

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, number: slice) -> list[np.ndarray]: ...

    def __getitem__(self, number: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        image = self._items[number][1]()
        self._on_image()
        return image
