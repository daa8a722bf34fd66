"""The dashboard with a model behind it: the folder's files, and answers about texts that are typed in. One process."""

import asyncio
import errno
import json
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, final

import uvicorn
from jaxtyping import Float
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.live.answers import Answering, Answers
from sae.dashboards.live.ending import Ending, ServerEnds
from sae.dashboards.live.guard import Guard, is_loopback, names_of
from sae.dashboards.live.reader import COLLECTED, reader_of
from sae.dashboards.live.requests import LIMITS, body_limit, read_object
from sae.dashboards.live.text_block import TextTooLong
from sae.errors import UserError
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel

__all__ = ["application", "listen", "serve", "serve_answers"]

PAGE = "index.html"
MOST_REQUESTS = 64  # that are answered or wait; connections that ask nothing do not count
SECONDS_TO_END = 5  # that requests in progress get after Ctrl-C

logger = logging.getLogger(__name__)


def serve(
    folder: Path,
    *,
    sae: SparseAutoencoder,
    model: LanguageModel,
    inputs: Sequence[HookPoint],
    targets: Sequence[HookPoint],
    unembedding: Float[Tensor, "vocabulary d_out"] | None,
    host: str,
    port: int,
    open_browser: bool,
    say: Callable[[str], None],
) -> int:
    """Serve a dashboard until Ctrl-C.

    Args:
        folder: of the dashboard.
        sae: the SAE that it is of, taking raw activations.
        model: the model that it reads.
        inputs: the hook points that the SAE reads.
        targets: those that it predicts; the inputs, but for a transcoder.
        unembedding: direct effect of each dimension of what the decoder writes on each token's logit; None where there is none.
        host: name or address to listen on; 127.0.0.1 is this machine alone.
        port: to listen on; 0 takes any that is free.
        open_browser: whether to show the page.
        say: where the address is told.

    Returns:
        The exit status: 0.

    Raises:
        UserError: there is no dashboard, the SAE is of another size, or the port cannot be had.
    """

    def answers() -> Answers:
        reader = reader_of(folder, sae=sae, model=model, inputs=inputs, targets=targets, unembedding=unembedding)
        return Answers(reader, limits=LIMITS, collected=folder / COLLECTED)

    return serve_answers(folder, answers, model=model, host=host, port=port, open_browser=open_browser, say=say)


def serve_answers(
    folder: Path,
    answers: Callable[[], Answering],
    *,
    model: LanguageModel,
    host: str,
    port: int,
    open_browser: bool,
    say: Callable[[str], None],
) -> int:
    """Serve a dashboard's files and answers until Ctrl-C; for the arguments see `serve`.

    Args:
        folder: of the dashboard.
        answers: makes what answers, once there is a port.
        model: that they run.
        host: to listen on.
        port: to listen on.
        open_browser: whether to show the page.
        say: where the address is told.

    Returns:
        The exit status: 0.

    Raises:
        UserError: there is no dashboard, or the port cannot be had.
    """
    if not (folder / PAGE).is_file():
        raise UserError(f"{folder} holds no dashboard ({PAGE} is missing): build it first, without serve=true.")
    listening = listen(host, port)
    with listening:
        app = application(folder, answers(), host=host)
        address = _address(host, listening.getsockname()[1])
        say(f"Serving {folder} at {address} (Ctrl-C ends it)")
        if not is_loopback(host):
            say(f"note: whoever reaches this machine at {host} can run the model; host=127.0.0.1 keeps it to this machine")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        ending = Ending()
        with ending.heeded_by(model.module.base_model):
            _run(app, listening, ending)
    return 0


def application(folder: Path, answers: Answering, *, host: str) -> Starlette:
    """The application without a socket.

    Args:
        folder: files that are served; nothing outside it is, through links either.
        answers: about model and SAE.
        host: that it will listen on.
    """
    busy, free = asyncio.Lock(), asyncio.Semaphore(MOST_REQUESTS)
    limit = body_limit(answers.limits)

    def route(name: str, answer: Callable[[Mapping[str, Any]], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            if free.locked():
                raise HTTPException(503, f"{MOST_REQUESTS} requests wait already. Ask again when some are answered.")
            try:
                async with free:
                    fields = read_object(await _body(request, limit))
                    async with busy:  # the model does one thing at a time; who waits holds no thread
                        return _json(await run_in_threadpool(answer, fields))
            except TextTooLong as error:
                raise HTTPException(413, str(error)) from None
            except UserError as error:
                raise HTTPException(400, str(error)) from None
            except HTTPException:
                raise
            except (ServerEnds, asyncio.CancelledError):  # cancelled: its time to end was over
                raise HTTPException(503, "The server ends.") from None
            except Exception as error:
                reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
                logger.error("The model failed on /api/%s (%s); the server goes on.", name, reason)
                logger.debug("/api/%s failed", name, exc_info=True)
                raise HTTPException(500, f"The model failed on this request ({reason}). Others are still answered.") from None

        return Route(f"/{name}", endpoint, methods=["POST"])

    def hello(_: Request) -> Response:
        return _json(answers.hello())

    api = [Route("/hello", hello, methods=["GET"]), *(route(name, answer) for name, answer in answers.posts.items())]
    routes = [Mount("/api", routes=api), Mount("/", StaticFiles(directory=folder, html=True))]
    guard = Middleware(Guard, names=names_of(host, socket.gethostname()), loopback=is_loopback(host))
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _refuse})


async def _body(request: Request, limit: int) -> bytes:
    """The body of a POST, of JSON, of at most so many bytes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"The content type is {kind[:80] or 'missing'!r}. Expected application/json.")
    size = 0
    parts: list[bytes] = []
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"The request is longer than {limit:,} bytes, the most that is read. Shorten the text.")
        parts.append(part)
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    # ASCII alone, so that no text is ever markup, and no number that JSON has not.
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")


def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json({"error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        UserError: the address is none, or cannot be had.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"port={port} is no port: expected 0 (any that is free) to 65535.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(
            f"host={host} port={port} is no address to listen on ({error}): try host=127.0.0.1 port=8000."
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} of {host} is in use, perhaps by another dashboard: end that, or take port={port + 1}."
            ) from None
        raise UserError(
            f"host={host} port={port} cannot be listened on ({os.strerror(error.errno or 0)}): choose others."
        ) from None


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


@final
class _Server(uvicorn.Server):
    """A server that tells its model when it is to end."""

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C or SIGTERM."""
        self._ending.ask()
        super().handle_exit(sig, frame)


def _run(app: Starlette, listening: socket.socket, ending: Ending) -> None:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    try:
        _Server(config, ending).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn ends by itself on Ctrl-C and then raises it again
        return
