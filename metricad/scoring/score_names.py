"""Names of the image scores. This module does not import Keras, because exports run without it."""

SCORES = {"max": 0.0, "top-0.1%": 0.001, "top-1%": 0.01, "top-10%": 0.1}
"""Share of the largest map values that are averaged to the score; at least one value."""

DEFAULT = "top-1%"

OWN = "own"
"""Name of the score of a published method, which does not come from the map in one of these ways."""


def checked(name: str) -> str:
    """Return the name of a score; raise ValueError if it is unknown."""
    if name not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, received {name!r}")
    return name
