"""What `python -m tune serve` says over HTTP: who may ask, how much of a request is read, and how errors are told."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cifar.errors import DataError, FormatError
from cifar.predict import answer

if TYPE_CHECKING:
    from cifar.predictor import Predictor

BODY_S = 60.0  # for a client to send its image
PREDICT_S = 60.0  # for the prediction, with the wait for a replica
_HOW = "send the image file itself as the body, as curl --data-binary @image.png does"
_BUSY = {"Retry-After": "1"}

Answer = tuple[int, dict[str, Any]]
"""A status of HTTP, and what is said in JSON."""


def error(status: int, words: object) -> Answer:
    """An answer that says what is wrong, in a line."""
    return status, {"error": " ".join(str(words).split())}


def answers(predictor: "Predictor", contents: list[bytes], pool: Executor) -> list[Answer]:
    """An answer for each content of an image file; decoded in `pool`, predicted as one batch.

    Statuses: 200 with what `cifar.predict --json` says of an image; 415 if it is no image of a known format, 422 if it
    is broken or too large.
    """
    import numpy as np

    def read(content: bytes) -> Any:
        try:
            return predictor.read_bytes(content)
        except FormatError as reason:
            return error(415, f"the body is no image that is read: {reason}; {_HOW}")
        except DataError as reason:
            return error(422, f"the image in the body is broken or too large: {reason}")

    found = list(pool.map(read, contents))
    good = [index for index, pixels in enumerate(found) if not isinstance(pixels, tuple)]
    if good:
        rows = predictor.probabilities(np.stack([found[index] for index in good])).tolist()
        for index, row in zip(good, rows, strict=True):
            found[index] = 200, answer(predictor.classes, row)
    return found


def application(
    predict: Callable[[bytes], Awaitable[Answer]], model: dict[str, Any], token: str, max_bytes: int
) -> Starlette:
    """POST /predict asks `predict` about the body; GET / tells `model`; GET /health is for whoever watches.

    The first two want `token` as `Authorization: Bearer`. Of a body no more than `max_bytes` are kept, nor is the rest
    waited for. Every answer is JSON, an error's is {"error": a line}.
    """

    async def predicted(request: Request) -> Response:
        _check_token(request, token)
        content = await _body(request, max_bytes)
        try:
            async with asyncio.timeout(PREDICT_S):
                status, said = await predict(content)
        except TimeoutError:
            raise HTTPException(503, f"no replica answered in {PREDICT_S:g} s; try again later", _BUSY) from None
        return JSONResponse(said, status, headers=_BUSY if status == 503 else None)

    async def told(request: Request) -> Response:
        _check_token(request, token)
        return JSONResponse(model)

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    paths = [
        Route("/predict", predicted, methods=["POST"]),
        Route("/", told, methods=["GET"]),
        Route("/health", healthy, methods=["GET"]),
    ]
    app = Starlette(
        routes=paths, exception_handlers={HTTPException: _refused, ClientDisconnect: _gone, Exception: _failed}
    )
    app.router.redirect_slashes = False
    return app


def _check_token(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # headers are read as Latin-1, and compare_digest wants ASCII or bytes
    right = secrets.compare_digest(given.strip().encode("latin-1"), token.encode())
    if scheme.lower() != "bearer" or not right:
        words = "the token is wrong" if given else "this needs a token"
        raise HTTPException(
            401, f"{words}; send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )


async def _body(request: Request, most: int) -> bytes:
    length = int(request.headers.get("content-length", 0))  # uvicorn lets nothing but digits through
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            if length <= most:
                async for part in request.stream():
                    content += part
                    if len(content) > most:
                        break
    except TimeoutError:
        raise HTTPException(408, f"the body did not come in {BODY_S:g} s") from None
    if max(length, len(content)) > most:
        raise HTTPException(413, f"the body has more than {most} bytes; --max-bytes of the server allows no more")
    return bytes(content)


async def _refused(request: Request, why: Exception) -> Response:
    assert isinstance(why, HTTPException)
    words = why.detail
    if why.status_code == 404:
        words = f"there is no {request.url.path}; there are POST /predict, GET / and GET /health"
    elif why.status_code == 405:
        words = f"{request.url.path} does not take {request.method}; it takes {(why.headers or {})['Allow']}"
    status, said = error(why.status_code, words)
    return JSONResponse(said, status, headers=why.headers)


async def _gone(request: Request, why: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _failed(request: Request, why: Exception) -> Response:
    """The traceback is for the server's log, where uvicorn writes it."""
    status, said = error(500, "a fault of the server's; its log says more")
    return JSONResponse(said, status)
