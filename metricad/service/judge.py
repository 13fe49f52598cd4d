"""Inspect images of many requests with the inspectors of all parts, within limits."""

import contextlib
import functools
import hashlib
import io
import logging
import time
from asyncio import create_task
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import PIL.Image
from fastapi import Request

from metricad.errors import DataError, InspectorError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge
from metricad.service import decoding, request_body
from metricad.service.limiter import WorkerQueue
from metricad.service.prometheus import ServiceMetrics
from metricad.service.schemas import COME_BACK, NotJudgedError, Part, Parts, Refusal, Verdict
from metricad.versions import versions

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestLimits:
    """Limits for one request and for all of them.

    Attributes
    ----------
    body_bytes : int
        Largest body of a request, in bytes.
    pixels : int
        Largest number of pixels of an image.
    upload_seconds : float
        Time limit for receiving the whole body.
    workers : int
        Number of images decoded and inspected at the same time.
    queue : int
        Number of further requests that may wait.
    wait_seconds : float
        Time limit for waiting for a free worker.
    """

    body_bytes: int = 32 * 2**20
    pixels: int = decoding.MOST_PIXELS
    upload_seconds: float = 20.0
    workers: int = 2
    queue: int = 16
    wait_seconds: float = 10.0


class Judge:
    """Inspects the images of requests with the inspector of the requested part.

    Parameters
    ----------
    parts : mapping of str to Inspector
    limits : RequestLimits
    """

    def __init__(self, parts: Mapping[str, Inspector[ImageJudge]], *, limits: RequestLimits) -> None:
        for inspector in parts.values():
            inspector.check_threshold()
        self.parts = dict(parts)
        self.limits = limits
        self.version = versions()["metricad"]
        self.metrics = ServiceMetrics()
        self._queue: WorkerQueue | None = None
        self._not_ready = "still starting: its parts have not judged their first image"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accept requests while the block runs; start the warm-up."""
        limits = self.limits
        self._queue = WorkerQueue(workers=limits.workers, queue=limits.queue, patience=limits.wait_seconds)
        warming = create_task(self._warm_up(self._queue))
        yield
        warming.cancel()
        self._queue.close()

    async def _warm_up(self, gate: WorkerQueue) -> None:
        """Inspect one image with each part, because compiling and loading the colormaps take seconds."""
        try:
            for name in self.parts:
                await gate.run(functools.partial(self._first_image, name))
        except Exception:  # nobody awaits this task, so the error is logged here and reported by readiness
            log.exception("part %s fails", name)
            self._not_ready = f"part {name} cannot judge images; see the service's log"
        else:
            self._not_ready = ""

    def _first_image(self, name: str) -> None:
        self._try(self.parts[name])

    def _try(self, inspector: Inspector[ImageJudge]) -> None:
        """Judge an image; raise InspectorError if that fails."""
        detector = inspector.detector
        size = (detector.grid.smallest, detector.grid.smallest, *([3] if detector.channels == 3 else []))
        # A part with a mask or positions accepts only its own size. Then the network has run before the
        # error.
        try:
            image = np.zeros(size, np.float32)
            self._draw(inspector, image)
        except InspectorError:
            raise
        except DataError:
            pass

    def replace(self, name: str, inspector: Inspector[ImageJudge]) -> None:
        """Use another inspector for a part, for all requests that begin afterwards.

        Call it in a thread of its own: the inspector judges one image first.

        Raises
        ------
        InspectorError
            The inspector fails, or has no threshold. The one before stays.
        """
        inspector.check_threshold()
        self._try(inspector)
        self.parts[name] = inspector

    def check_ready(self) -> None:
        """Raise Refusal until every part has judged an image."""
        if self._not_ready:
            raise Refusal(503, "starting", self._not_ready, COME_BACK)

    def describe(self) -> Parts:
        """Describe the parts and limits of the service."""
        parts = [
            Part(
                name=name,
                threshold=inspector.threshold,
                false_alarm_rate=inspector.calibrated.false_alarm_rate,
                rate_basis=inspector.calibrated.basis.value,
                rate_interval=inspector.calibrated.interval,
                statement=inspector.calibrated.describe(),
                smallest=inspector.detector.grid.smallest,
                fitted_on=inspector.fitted_on,
            )
            for name, inspector in self.parts.items()
        ]
        limits = self.limits
        return Parts(
            parts=parts, most_bytes=limits.body_bytes, most_pixels=limits.pixels, version=self.version
        )

    async def answer(self, request: Request, name: str, work: Callable[[str, bytes], T]) -> T:
        """Run `work` on a request's image in a thread; refuse bad requests as early as possible."""
        if name not in self.parts:
            raise Refusal(404, "part", f"no part {name!r}; expected {', '.join(self.parts)}")
        request.state.part = name
        self.check_ready()
        limits = self.limits
        request_body.check_head(request, most_bytes=limits.body_bytes)
        queue = self._queue
        assert queue is not None
        with queue.place():
            content = await request_body.received(
                request, most_bytes=limits.body_bytes, seconds=limits.upload_seconds
            )
            return await queue.run(functools.partial(work, name, content))

    def verdict(self, name: str, content: bytes) -> Verdict:
        """Inspect an image file and return the verdict; raises NotJudgedError."""
        began = time.perf_counter()
        inspector = self.parts[name]  # one for the whole request, as it may be replaced meanwhile
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            found, _ = inspector.inspect(self._decode(inspector, content), sha256=sha256)
        except DataError as error:
            if isinstance(error, InspectorError):
                self.metrics.verdicts.labels(name, "error").inc()
            record = inspector.failed(None, sha256, str(error)).record()
            raise NotJudgedError(record | {"part": name}) from error
        self.metrics.verdicts.labels(name, found.verdict).inc()
        return Verdict.model_validate(
            {
                **found.record(),
                "part": name,
                "peak": {"row": found.peak_row, "column": found.peak_col},
                "version": self.version,
                "milliseconds": round(1000 * (time.perf_counter() - began), 3),
            }
        )

    def picture(self, name: str, content: bytes) -> bytes:
        """Draw the anomaly map of an image file; return a PNG file."""
        inspector = self.parts[name]
        image = self._decode(inspector, content)
        return self._draw(inspector, image)

    def _decode(self, inspector: Inspector[ImageJudge], content: bytes) -> np.ndarray:
        return decoding.decode(
            content,
            smallest=inspector.detector.grid.smallest,
            most_pixels=self.limits.pixels,
            color=inspector.detector.channels == 3,
            levels=inspector.levels,
        )

    def _draw(self, inspector: Inspector[ImageJudge], image: np.ndarray) -> bytes:
        inspection, anomaly = inspector.inspect(image)
        picture = inspector.picture(inspection, image, anomaly)
        file = io.BytesIO()
        PIL.Image.fromarray(picture).save(file, "PNG", compress_level=1)  # higher levels are slow
        return file.getvalue()
