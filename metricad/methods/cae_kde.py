"""Convolutional autoencoder with a kernel density: anomalies have an unlikely code and a large error.

Galacz, Simon and Szabó, "Identification of defective products with a convolutional autoencoder" (a students'
report, 2021 or later).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import keras
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity

from metricad.data import images as image_files
from metricad.methods import training_loop
from metricad.methods.arrays import Arrays, of_model, to_model

PUBLISHED_EPOCHS = 100

FILTERS = (128, 64, 64, 32)
"""Filters of the encoder's four convolutions; the source gives the first and the last."""

BANDWIDTHS = tuple(np.geomspace(0.1, 3, 16).tolist())
"""Bandwidths of the kernel to try, in standard deviations of the whitened code."""

_FEWEST = 4  # two images to fit to and two held out: a single one has no standard deviation and no density
_FOLDS = 5


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of a value over held-out good images."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """Compute both from values (n,); the smallest standard deviation is a millionth of the mean."""
        smallest = max(1e-6 * abs(values.mean()), np.finfo(np.float32).tiny)
        return cls(float(values.mean()), float(max(values.std(ddof=1), smallest)))

    def __call__(self, value: float) -> float:
        return (value - self.mean) / self.deviation


class CaeKdeDetector:
    """Score: how unlikely an image's code is among good images, plus how large its reconstruction error is.

    Follows `interface.Detector`. From the source: four convolutions with ReLU from 128 down to 32 filters,
    each before a max pooling; a mirrored decoder; Adam, batches of 16, 100 epochs of 250/16 steps;
    scikit-learn's `KernelDensity` on the flattened code. It checks an image's density and its error against
    numbers set by hand, and does not say whether one of them suffices. Differences, and what the source
    leaves open:

    - Images are gray and resized to squares of `side` pixels regardless of their aspect ratio. The filters
      between the first and the last, the mean squared error and the final tanh are our choice.
    - A flattened code has 2048 numbers. A density with so many dimensions cannot be estimated from some
      hundred images: its kernels overlap everywhere or nowhere. So the code is first reduced by
      scikit-learn's PCA to its `components` main directions over the training images. Each is scaled to unit
      variance, so that one bandwidth fits all.
    - The bandwidth is the one of `BANDWIDTHS` with the largest likelihood of left-out codes (cross-validation
      over the training images). The source gives none.
      With `components` None it is the density of the whole code, divided by its standard deviation.
    - Both thresholds are quantiles over good images held out from the training, the PCA and the density. The
      rule is ours: by default both must be unusual.
    - An epoch is all images once, which is 250/16 steps for 250 images. `steps` sets another number.
    - One score for ranking, which the source does not have: the sum of the error and the negative log
      density, both standardized over the held-out images. It has no upper limit.
    - The map is the squared difference; the source has none. The density has no position in the image.

    Parameters
    ----------
    side : int
        Side in pixels that images are resized to; a multiple of 2 to the power of the number of `filters`.
    filters : sequence of int
        Filters of each convolution with max pooling; the decoder has them in reverse order.
    components : int or None
        Dimensions of the reduced code; fewer if there are fewer images. None leaves out the PCA.
    rule : {"both", "either"}
        Whether `is_anomalous` requires an unusual density and an unusual error, or one of them.
    steps : int, optional
        Steps of an epoch; see `training_loop.train`.
    holdout : float in (0, 1)
        Share of the images, at least two, for thresholds and scales; drawn with the seed.
    false_alarm_rate : float in (0, 1)
        Share of the held-out images beyond each threshold.
    epochs, batch_size, learning_rate
        Settings of the training with Adam; the learning rate is Keras's default.
    seed : int
        Seed of the initial weights, the held-out images and the order of images. Keras's global seed is not
        changed.
    checkpoint : path, optional
        Folder for checkpoints; an interrupted training continues from there, see `training_loop.train`.
    on_epoch : function
        Called after each epoch.

    Attributes
    ----------
    density_threshold, error_threshold : float
        An image is unusual if its log density is below the first, or its mean squared error is above the
        second.

    Raises
    ------
    ValueError
        A setting is outside its range.
    """

    def __init__(
        self,
        *,
        side: int = 128,
        filters: tuple[int, ...] = FILTERS,
        components: int | None = 16,
        rule: str = "both",
        holdout: float = 0.2,
        false_alarm_rate: float = 0.05,
        epochs: int = PUBLISHED_EPOCHS,
        batch_size: int = 16,
        steps: int | None = None,
        learning_rate: float = 1e-3,
        seed: int = 0,
        checkpoint: Path | None = None,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> None:
        counts = {"side": side, "epochs": epochs, "batch_size": batch_size}
        counts |= {} if components is None else {"components": components}
        training_loop.check_counts(**counts, **({} if steps is None else {"steps": steps}))
        if rule not in ("both", "either"):
            raise ValueError(f"rule must be both or either, received {rule!r}")
        training_loop.check_filters(side, filters)
        for name, share in {"holdout": holdout, "false_alarm_rate": false_alarm_rate}.items():
            if not 0 < share < 1:
                raise ValueError(f"{name} must lie between 0 and 1, received {share}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, received {learning_rate}")
        self.side = side
        self.filters = tuple(filters)
        self.components = components
        self.rule = rule
        self.steps = steps
        self.holdout = holdout
        self.false_alarm_rate = false_alarm_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.checkpoint = checkpoint
        self.on_epoch = on_epoch
        self.model: keras.Model
        self.reduction: PCA | _Scaled
        self.kde: KernelDensity
        self.density_threshold: float
        self.error_threshold: float
        self.losses: list[float] = []

    def fit(self, images: Iterable[np.ndarray]) -> Self:
        """Fit to good images, float32 (H, W) in [-1, 1]; all are kept in memory at the network's size.

        Raises
        ------
        ValueError, DataError
            There are fewer than four images, or an image is invalid.
        RunError
            See `training_loop.train`.
        """
        examples = training_loop.gather(images, self.side)
        if len(examples) < _FEWEST:
            raise ValueError(
                f"expected at least {_FEWEST} good images, some of which are held out for the thresholds, "
                f"received {len(examples)}"
            )
        held_out, kept = self._split(len(examples))
        trained, self.model = build(
            self.side, filters=self.filters, learning_rate=self.learning_rate, seed=self.seed
        )
        self.losses = training_loop.train(
            trained,
            examples[kept],
            epochs=self.epochs,
            batch_size=self.batch_size,
            steps=self.steps,
            seed=self.seed,
            checkpoint=self.checkpoint,
            on_epoch=self.on_epoch,
        )
        codes = np.concatenate([self._code_and_map(example)[0] for example in examples[kept]])
        if self.components is None:
            self.reduction = _Scaled(float(codes.std()))
        else:
            dimensions = min(self.components, len(codes) - 1, codes.shape[1])
            with np.errstate(
                invalid="ignore"
            ):  # codes that never vary give 0/0 as their share of the variance
                self.reduction = PCA(dimensions, whiten=True, svd_solver="full").fit(codes)
        self.kde = fit_density(self.reduction.transform(codes), seed=self.seed)
        densities, errors = np.array([self._measure(example) for example in examples[held_out]]).T
        self.density_threshold = float(np.quantile(densities, self.false_alarm_rate))
        self.error_threshold = float(np.quantile(errors, 1 - self.false_alarm_rate))
        self._rarity, self._error = Standard.of(-densities), Standard.of(errors)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `fit` learned."""
        rarity, error = self._rarity, self._error
        numbers = {
            "bandwidth": self.kde.bandwidth,
            "thresholds": (self.density_threshold, self.error_threshold),
            "scales": (rarity.mean, rarity.deviation, error.mean, error.deviation),
        }
        return {
            **of_model("model", self.model),
            **_arrays(self.reduction),
            "codes": np.asarray(self.kde.tree_.data),
            **{name: np.array(value, np.float64) for name, value in numbers.items()},
        }

    def restore(self, arrays: Arrays) -> Self:
        """Take what `arrays` returned, in place of `fit`."""
        _, both = build(self.side, filters=self.filters, seed=self.seed)
        self.model = to_model(both, "model", arrays)
        self.reduction = _restored(arrays)
        bandwidth = float(arrays["bandwidth"])
        self.kde = KernelDensity(kernel="gaussian", bandwidth=bandwidth).fit(arrays["codes"])
        self.density_threshold, self.error_threshold = arrays["thresholds"].tolist()
        scales = arrays["scales"].tolist()
        self._rarity, self._error = Standard(*scales[:2]), Standard(*scales[2:])
        return self

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        """Compute the squared difference to the reconstruction: float32 (H, W), 0 to about 4."""
        _, squared = self._code_and_map(training_loop.gather([image], self.side)[0])
        return image_files.resize(squared, image.shape)

    def score(self, image: np.ndarray) -> float:
        """Compute the sum of error and negative log density, each standardized with the held-out images."""
        return self._combined(*self.measure(image))

    def judge(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute score and map at once."""
        code, squared = self._code_and_map(training_loop.gather([image], self.side)[0])
        return self._combined(*self._measured(code, squared)), image_files.resize(squared, image.shape)

    def _combined(self, density: float, error: float) -> float:
        return self._error(error) + self._rarity(-density)

    def measure(self, image: np.ndarray) -> tuple[float, float]:
        """Compute the log density of the image's reduced code, and its mean squared reconstruction error."""
        return self._measure(training_loop.gather([image], self.side)[0])

    def is_anomalous(self, image: np.ndarray) -> bool:
        """Whether density is below and error above their thresholds, or one of them, by the `rule`."""
        density, error = self.measure(image)
        unusual = density < self.density_threshold, error > self.error_threshold
        return all(unusual) if self.rule == "both" else any(unusual)

    def embedding(self, image: np.ndarray) -> np.ndarray:
        """Compute the reduced code that the density is fitted to: float32 (components,)."""
        code, _ = self._code_and_map(training_loop.gather([image], self.side)[0])
        return self.reduction.transform(code)[0].astype(np.float32)

    def _split(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the held-out images and of all others."""
        order = np.random.default_rng(self.seed).permutation(count)
        share = min(max(round(self.holdout * count), 2), count - 2)
        return np.sort(order[:share]), np.sort(order[share:])

    def _code_and_map(self, example: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute flattened code (1, d) and squared difference (side, side) of an example (side, side, 1)."""
        # One at a time, also while fitting: needs little memory, and gives exactly the same values as later.
        code, restored = self.model.predict_on_batch(example[np.newaxis])
        return code.reshape(1, -1), np.square(example - restored[0])[..., 0]

    def _measure(self, example: np.ndarray) -> tuple[float, float]:
        return self._measured(*self._code_and_map(example))

    def _measured(self, code: np.ndarray, squared: np.ndarray) -> tuple[float, float]:
        density = float(self.kde.score_samples(self.reduction.transform(code))[0])
        return density, float(squared.mean(dtype=np.float64))


@dataclass(frozen=True)
class _Scaled:
    """The whole code, divided by one number; takes the place of a PCA."""

    deviation: float

    def transform(self, codes: np.ndarray) -> np.ndarray:
        return codes / max(self.deviation, float(np.finfo(np.float32).tiny))


def _arrays(reduction: PCA | _Scaled) -> dict[str, np.ndarray]:
    """Return what `_restored` needs."""
    if isinstance(reduction, _Scaled):
        return {"deviation": np.array(reduction.deviation)}
    return {
        "pca/mean": reduction.mean_,
        "pca/components": reduction.components_,
        "pca/variance": reduction.explained_variance_,
    }


def _restored(arrays: Arrays) -> PCA | _Scaled:
    if "deviation" in arrays:
        return _Scaled(float(arrays["deviation"]))
    pca = PCA(whiten=True)
    pca.mean_, pca.components_ = arrays["pca/mean"], arrays["pca/components"]
    pca.explained_variance_ = arrays["pca/variance"]
    return pca


def fit_density(codes: np.ndarray, *, seed: int = 0) -> KernelDensity:
    """Fit a Gaussian kernel density to codes; the bandwidth maximizes the likelihood of left-out codes.

    Parameters
    ----------
    codes : float (n, d), at least two, of about unit variance
    seed : int
        Seed of the folds.
    """
    folds = KFold(min(_FOLDS, len(codes)), shuffle=True, random_state=seed)
    search = GridSearchCV(KernelDensity(kernel="gaussian"), {"bandwidth": BANDWIDTHS}, cv=folds)
    return search.fit(codes.astype(np.float64)).best_estimator_


def build(
    side: int = 128, *, filters: tuple[int, ...] = FILTERS, learning_rate: float = 1e-3, seed: int = 0
) -> tuple[keras.Model, keras.Model]:
    """Build the autoencoder for training, and a model with the same weights that also returns the code.

    Returns
    -------
    trained, both : keras.Model
        The first maps (N, side, side, 1) in [-1, 1] to the same shape; the second also returns the code (N,
        s, s, filters[-1]).
    """
    next_seed = training_loop.layer_seeds(seed)

    def convolution(count: int, activation: str, **name: str) -> keras.layers.Layer:
        initial = keras.initializers.GlorotUniform(seed=next_seed())
        return keras.layers.Conv2D(
            count, 3, padding="same", activation=activation, kernel_initializer=initial, **name
        )

    pixels = x = keras.Input((side, side, 1), name="image")
    for count in filters:
        x = keras.layers.MaxPooling2D(2)(convolution(count, "relu")(x))
    code = x
    for count in filters[::-1]:
        x = keras.layers.UpSampling2D(2)(convolution(count, "relu")(x))
    restored = convolution(1, "tanh", name="restored")(x)
    trained = keras.Model(pixels, restored, name="cae")
    # XLA is off: on CPUs it makes a training step slower.
    trained.compile(keras.optimizers.Adam(learning_rate), loss="mean_squared_error", jit_compile=False)
    both = keras.Model(pixels, [code, restored], name="cae_with_code")
    both.compile(jit_compile=False)
    return trained, both
