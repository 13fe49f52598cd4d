"""What `metricad evaluate` can put side by side: networks, bundles, and the controls beside them.

A method that metricad is compared with is one module here, following `metricad.detector.Detector`, and
one entry below.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from metricad import bundle, network, runs
from metricad.detector import TripletDetector
from metricad.evaluation import Method
from metricad.methods.variation import VariationDetector
from metricad.prototype import KINDS, MeanPrototype, Prototype

BASELINES = (Method("per-pixel variation", "baseline", VariationDetector),)


def of_network(run: str | os.PathLike, kinds: Sequence[str], *, metric: str = "euclidean") -> list[Method]:
    """Prototypes of these kinds on a trained network, and on the same network before its training.

    Raises
    ------
    RunError
        The run has no weights.
    """
    settings, _ = runs.read_config(run)
    networks = {
        "trained": runs.load_network(run),
        "untrained": network.build(settings.units, seed=settings.seed),
    }
    metrics = {kind: metric if kind == MeanPrototype.kind else None for kind in kinds}
    return [
        Method(
            name=name_of(empty_prototype(kind, metric=metrics[kind])),
            role=role,
            make=lambda model=model, kind=kind: TripletDetector(
                model, empty_prototype(kind, metric=metrics[kind])
            ),
            network=Path(run).resolve().name,
            units=settings.units,
            seed=settings.seed,
        )
        for role, model in networks.items()
        for kind in kinds
    ]


def of_bundle(path: str | os.PathLike) -> Method:
    """A ready-made inspector; raises as `bundle.load` does."""
    inspector = bundle.load(path)
    detector = inspector.detector
    return Method(
        name=f"{Path(path).stem}: {name_of(detector.prototype)}",
        role="bundle",
        make=lambda: detector,
        units=int(detector.model.output_shape[-1]),
        is_fitted=True,
        threshold=inspector.threshold,
    )


def empty_prototype(kind: str, *, metric: str | None = None) -> Prototype:
    """Make a prototype of this kind that is not fitted yet, with the kind's own metric or the one given.

    Raises
    ------
    ValueError
        There is no such kind, or a metric is asked of a kind that has its own.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, received {kind!r}")
    if metric is None:
        return KINDS[kind]()
    if kind != MeanPrototype.kind:
        raise ValueError(f"a {kind} prototype has a metric of its own; leave out the metric {metric!r}")
    return MeanPrototype(metric=metric)


def name_of(prototype: Prototype) -> str:
    """Name of a prototype in a report."""
    return f"{prototype.kind} {prototype.metric}" if isinstance(prototype, MeanPrototype) else prototype.kind
