"""Run a TFDS builder without its output, completely or not at all, and summarize the result."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from data_prep import sources, staging
from metricad.errors import DataError


def prepare(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
    config: str | tfds.core.BuilderConfig | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Prepare a data set if it does not exist yet.

    Parameters
    ----------
    builder_class : class
        TFDS builder. Its metadata hold `counts` (of each split) and `notes` (for the user).
    data_dir : Path
        Folder of all TFDS directories; the data set is written to ``data_dir/name[/config]/version``.
    manual_dir : Path, optional
        Folder of the unpacked original, for builders that need one.
    config : str or BuilderConfig, optional
        Configuration of the builder.
    overwrite : bool
        Build again if it exists. The old one is replaced only when the new one is complete.

    Returns
    -------
    list of str
        Lines for the user; the last one has the counts.

    Raises
    ------
    DataError
        The original is not as expected, or something else is in the place of the data set. Then nothing new
        is left behind, and an existing data set is not changed.
    """
    name = builder_class.name + (f"/{getattr(config, 'name', config)}" if config else "")
    place = f"{name}/{builder_class.VERSION}"
    target = Path(data_dir).expanduser() / place
    if target.exists() and not overwrite:
        return ["already prepared, nothing done; --overwrite builds it again", *_report(target)]
    if manual_dir is not None:
        manual_dir = sources.folder(manual_dir)
    with staging.publishing(Path(data_dir).expanduser(), place) as folder, _quiet_tfds(folder):
        builder = builder_class(data_dir=folder, config=config)
        try:
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
            )
        except (OSError, RuntimeError, tf.errors.OpError) as error:
            raise _in_short(error, name) from None
    return _report(target)


def _in_short(error: Exception, name: str) -> Exception:
    """Find the cause of a file error in the errors of TFDS and TensorFlow."""
    cause = error.__cause__ or error  # TFDS raises a new error with its own text before the original
    if isinstance(cause, OSError):
        return cause
    message = getattr(cause, "message", str(cause))
    reason = message.rpartition("; ")[2]  # TensorFlow puts the file name first, here a temporary one
    return DataError(
        f"{name}: TensorFlow could not read or write its records ({reason}); nothing is left behind"
    )


@contextlib.contextmanager
def _quiet_tfds(temporary: Path) -> Iterator[None]:
    """Suppress TFDS's progress bars, prints and logs, which are about downloads and temporary folders.

    TFDS makes temporary folders that it never removes. They are put into `temporary`, which is removed.
    """
    default, tempfile.tempdir = tempfile.tempdir, str(temporary)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tempfile.tempdir = default
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)


def _report(target: Path) -> list[str]:
    """Read the metadata of a prepared data set, as metricad does, and format them as lines."""
    try:
        metadata = tfds.builder_from_directory(target).info.metadata
        notes, counts = metadata["notes"], metadata["counts"]
    except Exception as error:  # TFDS, protobuf and JSON raise their own types of error
        raise DataError(
            f"{target}: not a complete data set of this kind ({type(error).__name__}); "
            "build it again with --overwrite, or choose another --data-dir"
        ) from error
    return [*(f"note: {note}" for note in notes), f"{target}: {closing_line(counts)}"]


def closing_line(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Format the counts of each split: ``train 575 images (496 good, 79 defects, 1 class)``."""
    return "; ".join(f"{split} {_words(numbers)}" for split, numbers in counts.items())


def _words(numbers: Mapping[str, int]) -> str:
    images, *others = (_plural(number, kind) for kind, number in numbers.items())
    return f"{images} ({', '.join(others)})"


def _plural(number: int, kinds: str) -> str:
    if kinds == "normals":  # the key in the metadata
        return f"{number} good"
    one = {"classes": "class"}.get(kinds, kinds.removesuffix("s"))
    return f"{number} {one if number == 1 else kinds}"
