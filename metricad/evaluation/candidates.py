"""Methods that `metricad evaluate` can compare: networks, bundles, controls and published methods."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from metricad.density import MEANS, Kind
from metricad.evaluation.protocol import Method
from metricad.inspection import bundle
from metricad.inspection.detector import PartDetector
from metricad.inspection.method_detector import MethodDetector
from metricad.methods.choice import choose
from metricad.methods.choice import is_resized as is_resized
from metricad.methods.variation import VariationDetector
from metricad.networks import factory, pretrained, residual
from metricad.training import loading, runs

BASELINES = (Method("per-pixel variation", "baseline", VariationDetector),)

_CONTROL_SEED = 0  # seed of the untrained network that a shipped network is compared with


def of_network(
    name: str | os.PathLike[str],
    kinds: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = ("euclidean",),
) -> list[Method]:
    """Make a method for each density on a network, and the same on an untrained network.

    Parameters
    ----------
    name : str or path
        Name of a shipped network, or folder of a run.
    kinds : sequence of str, optional
        Kinds of densities, see `PartDetector`. The default is ``auto`` for a shipped network and the paper's
        ``mean`` for a run.
    metrics : sequence of str
        Metrics of the mean densities.

    Raises
    ------
    RunError
        The run has no weights.
    """
    if not loading.is_shipped(name):
        return of_run(name, kinds or ("mean",), metrics=metrics)
    name = str(name)
    units = pretrained.UNITS[name]
    trained = pretrained.load(name)
    named = {"units": units, "seed": _CONTROL_SEED, "network": name}
    densities = _densities(kinds or ("auto",), metrics)
    found = _of_model(trained, densities, role="trained", seen=(), **named)
    if not factory.weights(trained):  # ImageNet features alone
        return found
    untrained = factory.build(trained.name, units, seed=_CONTROL_SEED)
    return [*found, *_of_model(untrained, densities, role="untrained", **named)]


def of_run(
    run: str | os.PathLike[str], kinds: Sequence[str], *, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Make the methods of `of_trained` and of the run's untrained network; raises the same errors."""
    settings, _ = runs.read_config(run)
    untrained = of_untrained(
        settings.units, settings.seed, kinds, name=Path(run).resolve().name, metrics=metrics
    )
    return of_trained(run, kinds, metrics=metrics) + untrained


def of_trained(
    run: str | os.PathLike[str], kinds: Sequence[str], *, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Make a method for each kind of density on the network of a run; `metrics` are those of the mean.

    Raises
    ------
    RunError
        The run has no weights.
    """
    settings, data = runs.read_config(run)
    return _of_model(
        runs.load_network(run),
        _densities(kinds, metrics),
        role="trained",
        network=Path(run).resolve().name,
        units=settings.units,
        seed=settings.seed,
        seen=data["seen"],
    )


def of_untrained(
    units: int, seed: int, kinds: Sequence[str], *, name: str, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Make a method for each kind of density on an untrained network with initial weights of this seed."""
    model = residual.build(units, seed=seed)
    return _of_model(
        model, _densities(kinds, metrics), role="untrained", network=name, units=units, seed=seed
    )


def of_names(
    names: Sequence[str],
    *,
    epochs: Mapping[str, int],
    weights: str | os.PathLike[str] | None = None,
    sides: Sequence[int] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Method]:
    """Make published methods, see `of_name`; those that are resized once for each of `sides`."""
    return [
        of_name(
            name, epochs=epochs.get(name), weights=weights, side=side, settings=(settings or {}).get(name)
        )
        for name in names
        for side in (sides if sides and is_resized(name) else [None])
    ]


def of_name(
    name: str,
    *,
    epochs: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    side: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Method:
    """Make a published method to compare with; parameters and errors of `choice.choose`."""
    choice = choose(name, epochs=epochs, weights=weights, side=side, settings=settings)
    record = {key: value for key, value in choice.settings.items() if value is not None}
    if "weights" in record:
        record["weights"] = Path(record["weights"]).name  # without folders of this machine
    return Method(
        name=choice.title,
        role="compared",
        make=choice.make,
        seed=record.get("seed"),
        settings=record,
        epochs=choice.epochs,
    )


def of_bundle(path: str | os.PathLike[str]) -> Method:
    """Make a method from a bundle; raises the errors of `bundle.load`."""
    inspector = bundle.load(path)
    detector, given = inspector.detector, inspector.calibration
    named: dict[str, Any]
    if isinstance(detector, MethodDetector):
        what, named = detector.description, {}
    else:
        what = density_name(detector.kind, detector.metric)
        named = {"units": factory.units(detector.network), "architecture": _shape(detector.network)}
    return Method(
        name=f"{Path(path).stem}: {what}",
        role="bundle",
        make=lambda: detector,
        **named,
        is_fitted=True,
        threshold=None if given is None else given.threshold,
        false_alarm_rate=None if given is None else given.false_alarm_rate,
        levels=inspector.levels,
        rate_basis="promised" if given is None else str(given.basis),
    )


def density_name(kind: str, metric: str = "euclidean") -> str:
    """Return the name of a density in a report; for a mean, with its metric."""
    return f"{kind} {metric}" if kind in MEANS else kind


def _shape(model: keras.Model) -> str | None:
    return None if model.name == residual.NAME else model.name


def _densities(kinds: Sequence[str], metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Return kind and metric of each requested density."""
    for kind in kinds:
        if kind not in list(Kind):
            raise ValueError(f"kind must be one of {', '.join(Kind)}, received {kind!r}")
    return [(kind, metric) for kind in kinds for metric in (metrics if kind in MEANS else metrics[:1])]


def _of_model(model: keras.Model, densities: Sequence[tuple[str, str]], **named: Any) -> list[Method]:
    return [
        Method(
            name=density_name(kind, metric),
            architecture=_shape(model),
            make=partial(PartDetector, model, kind, metric=metric if kind in MEANS else "euclidean"),
            **named,
        )
        for kind, metric in densities
    ]
