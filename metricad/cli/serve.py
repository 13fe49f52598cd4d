"""`metricad serve`: inspect images that are sent over HTTP."""

# This module must not import TensorFlow, FastAPI or uvicorn at the top: --help and option errors must answer
# at once, and FastAPI and uvicorn are optional.

import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metricad.cli.options import Verify
from metricad.deploy.loading import PartFile
from metricad.errors import MetricadError
from metricad.inspection.inspector import Inspector
from metricad.inspection.interface import ImageJudge

if TYPE_CHECKING:
    from fastapi import FastAPI

_EXTRA = ("fastapi", "uvicorn", "prometheus_client")
_TOKEN = "METRICAD_TOKEN"  # name of the environment variable
_SHORTEST_TOKEN = 16
# Keep connections open between images of a line: simple clients would fail if they were closed meanwhile.
_IDLE_SECONDS = 75
_LOOK_SECONDS = 5.0  # between two looks whether a part was replaced
_LAST_SECONDS = 30  # time for requests in progress when the service stops


def serve(
    parts: Annotated[
        list[Path],
        typer.Argument(metavar="PART", help="Inspectors made by 'metricad prototype', or exports."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that requests must send; or set the variable METRICAD_TOKEN.",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow other computers without a token.")
    ] = False,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Largest request body, in MiB.")] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Largest image, in 10⁶ pixels.")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Number of images inspected at the same time.")] = 2,
    queue: Annotated[int, typer.Option(min=0, help="Number of further requests that may wait.")] = 16,
    wait: Annotated[float, typer.Option(min=0.01, help="Longest wait for a worker, in seconds.")] = 10,
    upload: Annotated[
        float, typer.Option(min=0.01, help="Time limit for receiving a body, in seconds.")
    ] = 20,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log each request on standard error.")
    ] = False,
    verify: Verify = None,
) -> None:
    """Inspect images that are sent over HTTP.

    Open the address in a browser for a test page. SIGHUP loads all parts anew and drops no request; until
    then a replaced file changes nothing.

    Example: metricad serve part.metricad & curl -H 'Content-Type: image/png' --data-binary @image.png
    http://127.0.0.1:8000/parts/part/inspect
    """
    if any(importlib.util.find_spec(name) is None for name in _EXTRA):
        raise MetricadError(
            "the service needs FastAPI, uvicorn and prometheus-client: pip install 'metricad[serve]'"
        )
    names = _names(parts)
    token = _token(token_file)
    is_local = _is_loopback(host)
    if token is None and not is_local and not insecure:
        raise typer.BadParameter(
            f"--host {host} allows access from other computers: give --token-file or {_TOKEN}, or "
            "--insecure to allow it without a token"
        )
    asked = threading.Event()
    if hasattr(signal, "SIGHUP"):  # not on every system
        signal.signal(signal.SIGHUP, lambda *_: asked.set())
    with _bind(host, port) as listener:
        from metricad.service import app as service
        from metricad.service.judge import RequestLimits

        limits = RequestLimits(
            body_bytes=round(max_megabytes * 2**20),
            pixels=round(max_megapixels * 1e6),
            upload_seconds=upload,
            workers=workers,
            queue=queue,
            wait_seconds=wait,
        )
        # Without a token, only local host names are allowed. A web page whose name was redirected to this
        # computer uses another name, so it is refused.
        hosts = {"localhost", "127.0.0.1", "[::1]", host} if is_local and token is None else None
        files = {name: PartFile(path, workers=workers, key=verify) for name, path in names.items()}
        loaded = {name: file.load() for name, file in files.items()}
        api = service.app(loaded, limits=limits, token=token, hosts=hosts)
        threading.Thread(target=_renew, args=(files, api.state.judge.replace, asked), daemon=True).start()
        listener.listen()  # from now on, requests wait and are not refused
        secured = "" if token is None else ", with a token"
        typer.echo(f"serving {', '.join(names)} at {_address(listener)}{secured}")
        _run(api, listener, log_requests=log_requests)


def _renew(
    files: Mapping[str, PartFile],
    replace: Callable[[str, Inspector[ImageJudge]], None],
    asked: threading.Event,
) -> None:
    """Load parts anew when asked, each whole or not at all; tell on standard error which were replaced."""
    while True:
        is_asked = asked.wait(_LOOK_SECONDS)
        asked.clear()
        for name, file in files.items():
            said = None
            if is_asked:
                try:
                    replace(name, file.load())
                    said = "loaded anew"
                except Exception as error:  # whatever is wrong with it, the service goes on
                    said = f"not loaded anew, the one before stays: {error}"
            elif file.is_replaced():
                said = "was replaced; the one that was loaded stays until SIGHUP"
            if said is not None:
                print(f"{file.path}: {' '.join(said.split())}", file=sys.stderr, flush=True)


def _names(parts: Sequence[Path]) -> dict[str, Path]:
    """Return the paths of parts by file name."""
    names: dict[str, Path] = {}
    for path in parts:
        if path.stem in names:
            raise typer.BadParameter(
                f"two parts are called {path.stem!r}: {names[path.stem]} and {path}; rename one of the files"
            )
        names[path.stem] = path
    return names


def _token(file: Path | None) -> str | None:
    """Read the token from a file or the environment, so that the list of processes does not show it."""
    if file is not None:
        source, token = str(file), file.read_text(encoding="utf-8", errors="replace").strip()
    elif _TOKEN in os.environ:
        source, token = _TOKEN, os.environ[_TOKEN].strip()
    else:
        return None
    if len(token) < _SHORTEST_TOKEN or not all("!" <= sign <= "~" for sign in token):
        raise MetricadError(
            f"{source}: no valid token; expected {_SHORTEST_TOKEN} or more ASCII characters without spaces"
        )
    if file is not None and os.name == "posix" and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"warning: {file}: other users can read the token; chmod 600 it", file=sys.stderr)
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Bind the address before slow work starts. Requests are accepted once the service runs."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise MetricadError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(api: "FastAPI", listener: socket.socket, *, log_requests: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, and finish requests in progress."""
    import uvicorn

    from metricad.service.http_protocol import Protocol

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # Not on the root logger: decoders log warnings about odd files, and a client could fill disk and memory
    # with them.
    for name, level in (
        ("metricad", logging.INFO if log_requests else logging.WARNING),
        ("uvicorn", logging.ERROR),
    ):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(level)
    warnings.simplefilter("ignore")
    config = uvicorn.Config(
        api,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    # uvicorn raises the signal again when it stops. It is ignored, because a requested stop is no error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
