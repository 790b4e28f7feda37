"""`python -m tune serve`: predictions of a finished model over HTTP, by replicas on Ray Serve.

Requests are taken in this process and handed to the replicas, not by Serve's own HTTP proxies: those read a body as
fast as it comes before a replica can refuse it, share a port with whoever has it already, and tell errors as text.
"""

import os
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cifar.errors import UserError
from tune.interrupts import at_once
from tune.run import exit_status

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from cifar.predictor import Predictor

_END_S = 5  # for requests that were begun to be answered
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # of RFC 6750; nothing in it needs quoting in a shell


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1), help="Copies of the model.")
@click.option(
    "--max-bytes", default=10_000_000, show_default=True, type=click.IntRange(min=1), help="Size of the largest body."
)
@click.option("--allow-code", is_flag=True, help="Run a network of your own that a checkpoint names.")
@click.option("--address", help="Ray cluster to join, as in head:6379.  [default: one on this machine]")
def main(
    model: Path, host: str, port: int, replicas: int, max_bytes: int, allow_code: bool, address: str | None
) -> None:
    """Predict over HTTP with MODEL: the folder of a model, or its .ckpt or .onnx.

    POST /predict with an image file as the body gives its classes in JSON; GET / tells about the model, and GET /health
    whether the server is up. The token that requests need is taken from the environment variable CIFAR_TOKEN; without
    it one is drawn, and shown. Ctrl-C or SIGTERM ends it.
    """
    with exit_status():
        serve(model, host, port, replicas, max_bytes, allow_code=allow_code, address=address)


def serve(
    model: Path, host: str, port: int, count: int, max_bytes: int, *, allow_code: bool, address: str | None
) -> None:
    """Serves until Ctrl-C or SIGTERM, with `count` replicas. max_bytes: of a body.

    Raises UserError if the model, the port, the token or the cluster is none that can be used.
    """
    from cifar.predictor import load_predictor
    from tune import cluster
    from tune.replicas import check_installed, replicas, share

    # all that can be wrong is found out before Ray is started, which takes longest
    token, shown = _token()
    with _listening(host, port) as listener:
        predictor = load_predictor(model, allow_code=allow_code, threads=1, device="cpu")
        check_installed()
        from tune.http_api import application

        shape = [predictor.channels, *predictor.image_size]
        about = {"model": str(predictor.file), "classes": predictor.classes, "input_shape": shape}
        shared, on_gpus = address is not None, predictor.file.suffix != ".onnx"  # a graph is computed on CPUs
        # at_once anew, since Ray handles SIGTERM its own way once it is connected
        with cluster.connected(address) as nodes, at_once():
            each = share(count, nodes, shared=shared, on_gpus=on_gpus)
            with replicas(predictor.file, count, each, allow_code=allow_code, shared=shared) as predict:
                _answer(application(predict, about, token, max_bytes), listener, _ready(predictor, listener, shown))


def _token() -> tuple[str, str]:
    """The token, and what stands for it in a shell."""
    import secrets

    token = os.environ.pop("CIFAR_TOKEN", None)  # no business of Ray's processes
    if token is None:
        token = secrets.token_urlsafe(24)
        return token, token
    if not _TOKEN.fullmatch(token):
        raise UserError(
            "CIFAR_TOKEN is empty, or has characters that no token may have; use letters, digits and ._~+/- only, "
            "or unset it to have one drawn"
        )
    return token, "$CIFAR_TOKEN"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, from now on: nobody else can take the port while Ray is started."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); "
            "choose another one, or --port 0 for any that is free"
        ) from None
    with listener:
        yield listener


def _ready(predictor: "Predictor", listener: socket.socket, token: str) -> str:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    example = predictor.file.parent / "example.png"
    image = shlex.quote(f"@{example if example.is_file() else 'image.png'}")
    return f'ready: {url}; try curl -H "Authorization: Bearer {token}" --data-binary {image} {url}/predict'


def _answer(app: "Starlette", listener: socket.socket, ready: str) -> None:
    """Until a signal comes."""
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_END_S,
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
        click.echo(ready)
        uvicorn.Server(config).run(sockets=[listener])
