"""How an anomaly map becomes one number, by name; here without Keras, which exports do without."""

SCORES = {"max": 0.0, "top-0.1%": 0.001, "top-1%": 0.01, "top-10%": 0.1}
"""Share of a map's places, the largest values, whose mean is the score; one place at least."""

DEFAULT = "top-1%"


def checked(name: str) -> str:
    """Give a score's name back; ValueError when it is unknown."""
    if name not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}, received {name!r}")
    return name
