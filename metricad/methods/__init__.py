"""What `metricad evaluate` can put side by side: networks, bundles, the controls, and other methods.

A method that metricad is compared with is one module here, following `metricad.detector.Detector`, and
one line of `COMPARED`.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras

from metricad import runs
from metricad.inspection import bundle
from metricad.networks import factory as architectures, residual as network, pretrained
from metricad.inspection.detector import Detector, Features, SharedFeatures, TripletDetector
from metricad.evaluation import Method
from metricad.kinds import AutoPrototype, evidence_for, gathers, prototype_of, tone_for
from metricad.methods.adapted import AdaptedDetector
from metricad.methods.autoencoder import AutoencoderDetector
from metricad.methods.cae_kde import CaeKdeDetector
from metricad.methods.cpcae_knn import CpcaeKnnDetector
from metricad.methods.deep_feature_knn import DeepFeatureKnnDetector
from metricad.methods.denoising import DenoisingDetector
from metricad.methods.f_anogan import FAnoGanDetector
from metricad.methods.nearest_image import NearestImageDetector
from metricad.methods.patch_bank import PatchBankDetector
from metricad.methods.patch_gaussian import PatchGaussianDetector
from metricad.methods.variation import VariationDetector
from metricad.prototype import MeanPrototype, Prototype
from metricad.networks.grid import FeatureGrid

BASELINES = (Method("per-pixel variation", "baseline", VariationDetector),)

COMPARED: dict[str, Callable[..., Detector]] = {
    "cae-kde": CaeKdeDetector,
    "denoising": DenoisingDetector,
    "autoencoder": AutoencoderDetector,
    "f-anogan": FAnoGanDetector,
    "cpcae-knn": CpcaeKnnDetector,
    "deep-feature-knn": DeepFeatureKnnDetector,
    "nearest-image": NearestImageDetector,
    "patch-gaussian": PatchGaussianDetector,
    "patch-bank": PatchBankDetector,
}
"""Other published methods. One that takes ``epochs`` trains; one that takes ``weights`` is pre-trained."""

ADAPTED = "-adapted"
"""Follows the name of a network that ships where it is adapted to each surface."""

_PLAIN = (bool, int, float, str, list, tuple)

_CONTROL_SEED = 0  # of the weights that a network that ships is compared with


def of_network(
    name: str | os.PathLike, kinds: Sequence[str] | None = None, *, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Prototypes on a network, and the same on an untrained one.

    Parameters
    ----------
    name : str or path
        A network that ships, by its name, with `ADAPTED` behind it where it is to be adapted to each surface
        (its control is that of the name alone); or a run's folder.
    kinds : sequence of str, optional
        Of prototypes. When not given, what suits the network: ``auto`` on one that ships, the paper's
        ``mean`` on a run's.
    metrics : sequence of str
        Of the mean prototypes.

    Raises
    ------
    RunError
        The run has no weights.
    """
    if not is_shipped(name):
        return of_run(name, kinds or (MeanPrototype.kind,), metrics=metrics)
    name = str(name)
    base = name.removesuffix(ADAPTED)
    units = pretrained.UNITS[base]
    named = {"units": units, "seed": _CONTROL_SEED}
    trained = pretrained.load(base)
    prototypes = _prototypes(kinds or ("auto",), metrics, architectures.grid(trained))
    if base != name:
        return [
            Method(
                name=_kind_of(empty()),
                role="trained",
                make=lambda empty=empty: AdaptedDetector(_on(trained, empty(), SharedFeatures(trained))),
                network=name,
                seen=(),
                architecture=_shape(trained),
                **named,
            )
            for empty in prototypes
        ]
    untrained = architectures.build(trained.name, units, seed=_CONTROL_SEED)
    return [
        *_of_model(trained, prototypes, role="trained", network=base, seen=(), **named),
        *_of_model(untrained, prototypes, role="untrained", network=base, **named),
    ]


def is_shipped(name: str | os.PathLike) -> bool:
    """Whether this names a network that ships, adapted or not, and no run's folder."""
    return str(name).removesuffix(ADAPTED) in pretrained.UNITS


def load_network(name: str | os.PathLike) -> keras.Model:
    """Load a network that ships, by its name, or a run's; raises as `runs.load_network` does."""
    return pretrained.load(str(name)) if str(name) in pretrained.UNITS else runs.load_network(name)


def of_run(
    run: str | os.PathLike, kinds: Sequence[str], *, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """What `of_trained` gives, and the same on the network as it was before its training; raises alike."""
    trained = of_trained(run, kinds, metrics=metrics)
    named = trained[0]
    untrained = of_untrained(named.units, named.seed, kinds, name=named.network, metrics=metrics)
    return trained + untrained


def of_trained(
    run: str | os.PathLike, kinds: Sequence[str], *, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Prototypes of these kinds on a run's network; `metrics` are those of the mean prototypes.

    Raises
    ------
    RunError
        The run has no weights.
    """
    settings, data = runs.read_config(run)
    return _of_model(
        runs.load_network(run),
        _prototypes(kinds, metrics),
        role="trained",
        network=Path(run).resolve().name,
        units=settings.units,
        seed=settings.seed,
        seen=data["seen"],
    )


def of_untrained(
    units: int, seed: int, kinds: Sequence[str], *, name: str, metrics: Sequence[str] = ("euclidean",)
) -> list[Method]:
    """Prototypes of these kinds on a network with the weights that a training with this seed begins with."""
    model = network.build(units, seed=seed)
    return _of_model(
        model, _prototypes(kinds, metrics), role="untrained", network=name, units=units, seed=seed
    )


def of_name(name: str, *, epochs: int | None = None, weights: str | os.PathLike | None = None) -> Method:
    """A published method that metricad is compared with.

    Parameters
    ----------
    name : str
        One of `COMPARED`.
    epochs : int, optional
        To train for instead of the published number, where it trains; the name then says so.
    weights : str or path, optional
        Of the network that it takes its features from: ``imagenet``, a file, or ``none`` for random ones,
        which the name then says; ``imagenet`` when not given.

    Raises
    ------
    ValueError
        There is no such method.
    """
    if name not in COMPARED:
        raise ValueError(f"method must be one of {', '.join(COMPARED)}, received {name!r}")
    make = COMPARED[name]
    settings = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    chosen, remarks = {}, []
    if "epochs" in settings and epochs not in (None, settings["epochs"]):
        chosen["epochs"] = epochs
        remarks.append(f"{epochs} of {settings['epochs']} epochs")
    if "weights" in settings and weights is not None:
        chosen["weights"] = weights
        if str(weights) == "none":
            remarks.append("random weights")
    settings |= chosen
    if "weights" in settings:
        settings["weights"] = Path(settings["weights"]).name  # a file is named without this machine's folders
    return Method(
        name=f"{name} ({', '.join(remarks)})" if remarks else name,
        role="compared",
        make=partial(make, **chosen),
        seed=settings.get("seed"),
        settings={key: value for key, value in settings.items() if isinstance(value, _PLAIN)},
        epochs=settings.get("epochs", 0),
    )


def of_bundle(path: str | os.PathLike) -> Method:
    """A ready-made inspector; raises as `bundle.load` does."""
    inspector = bundle.load(path)
    detector = inspector.detector
    return Method(
        name=f"{Path(path).stem}: {name_of(detector.prototype)}",
        role="bundle",
        make=lambda: detector,
        units=architectures.units(detector.model),
        architecture=_shape(detector.model),
        is_fitted=True,
        threshold=inspector.threshold,
        false_alarm_rate=inspector.calibration.false_alarm_rate,
    )


def empty_prototype(
    kind: str, *, metric: str | None = None, sampling: FeatureGrid = network.GRID
) -> Prototype:
    """Make what `kinds.prototype_of` makes, with the kind's own metric or the one given.

    Raises
    ------
    ValueError
        There is no such kind, or a metric is asked of a kind that has its own.
    """
    made = prototype_of(kind, sampling)
    if metric is None:
        return made
    if kind != MeanPrototype.kind:
        raise ValueError(f"the {kind} prototype has a metric of its own; leave out the metric {metric!r}")
    return MeanPrototype(metric=metric)


def name_of(prototype: Prototype) -> str:
    """Name of a prototype in a report."""
    return f"{prototype.kind} {prototype.metric}" if isinstance(prototype, MeanPrototype) else prototype.kind


def _kind_of(empty: Prototype) -> str:
    """Name of a prototype that is not fitted yet: what chooses by the images goes by its own name."""
    return "auto" if isinstance(empty, AutoPrototype) else name_of(empty)


def _shape(model: keras.Model) -> str | None:
    return None if model.name == network.NAME else model.name


def _prototypes(
    kinds: Sequence[str], metrics: Sequence[str], sampling: FeatureGrid = network.GRID
) -> list[Callable[[], Prototype]]:
    return [
        lambda kind=kind, metric=metric: empty_prototype(kind, metric=metric, sampling=sampling)
        for kind in kinds
        for metric in (metrics if kind == MeanPrototype.kind else (None,))
    ]


def _on(model: keras.Model, prototype: Prototype, features: Features) -> TripletDetector:
    """An empty detector with all that suits a network."""
    return TripletDetector(
        model,
        prototype,
        features=features,
        tone=tone_for(model),
        evidence=evidence_for(model),
        gathers=gathers(model),
    )


def _of_model(
    model: keras.Model, prototypes: Sequence[Callable[[], Prototype]], **named: object
) -> list[Method]:
    features = SharedFeatures(model)
    return [
        Method(
            name=_kind_of(empty()),
            architecture=_shape(model),
            make=lambda empty=empty: _on(model, empty(), features),
            **named,
        )
        for empty in prototypes
    ]
