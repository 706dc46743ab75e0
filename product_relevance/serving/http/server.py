"""HTTP service of an ensemble: /predict, /rerank, /health, /metrics; `relevance serve MODEL`."""

import asyncio
import logging
import queue
import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect

from product_relevance import __version__
from product_relevance.serving import protocol
from product_relevance.serving.http import connections, openapi, rerank
from product_relevance.serving.http.access import VARIABLE, Access, RequireKey
from product_relevance.serving.http.body import ReadToEnd, read_json
from product_relevance.serving.http.dynamic_batching import Batcher
from product_relevance.serving.http.errors import error_response, http_error
from product_relevance.serving.http.page import PageFacts, render_page
from product_relevance.serving.limits import Limits
from product_relevance.serving.protocol import Answer, Question
from product_relevance.serving.scorer import answer_together

logger = logging.getLogger(__name__)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        limits: of one request.
        max_queue: requests that may wait; more are refused with 429 (TEI's limit is 512, too).
        max_batch: pairs of waiting requests that are scored together.
        timeout: seconds from the first byte of a request to its answer.
        window: seconds to wait for other requests to join.
        max_connections: open at once; further ones are answered 429 and closed.
        header_timeout: seconds until a request's headers are whole, and until a client has read its answer.
        keep_alive: seconds that a connection without a request stays open.
        access: who may ask.
    """

    limits: Limits = field(default_factory=Limits)
    max_queue: int = 512
    max_batch: int = 128
    timeout: float = 30.0
    window: float = 0.005
    max_connections: int = 512
    header_timeout: float = 10.0
    keep_alive: float = 5.0
    access: Access = field(default_factory=Access)

    def __post_init__(self):
        for name in ("max_queue", "max_batch", "timeout", "max_connections", "header_timeout", "keep_alive"):
            if not 0 < getattr(self, name) < 1e9:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        if not 0 <= self.window < self.timeout:
            raise ValueError(f"batch window: found {self.window:g} s, expected 0 or more and less than the timeout")


class Metrics:
    """What /metrics shows; a registry of its own, so that two services may live in one process."""

    def __init__(self):
        self.registry = CollectorRegistry()
        options = {"namespace": "relevance", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], **options)
        self.seconds = Histogram("request_seconds", "Seconds to answer.", ["path"], buckets=SECONDS, **options)
        self.pairs = Counter("pairs", "Pairs scored.", **options)
        self.batch = Histogram("batch_pairs", "Pairs scored together.", buckets=PAIRS, **options)
        self.queue = Gauge("queue_requests", "Requests that wait.", **options)


class Service:
    """The endpoints' work: read, check, queue, wait, answer."""

    def __init__(self, ensemble, settings: Settings):
        self.ensemble, self.settings, self.metrics = ensemble, settings, Metrics()
        self.batcher = Batcher(
            self._answer, max_pairs=settings.max_batch, max_queue=settings.max_queue, window=settings.window
        )
        self.metrics.queue.set_function(lambda: self.batcher.waiting)

    def _answer(self, questions: list[Question]) -> Sequence[Answer | Exception]:
        results = answer_together(self.ensemble, questions, self.settings.limits)
        scored = [q for q, result in zip(questions, results, strict=True) if not isinstance(result, Exception)]
        size = sum(len(question.pairs) for question in scored)
        self.metrics.batch.observe(size)
        self.metrics.pairs.inc(size)
        return results

    async def respond(self, request: Request, parse: Callable) -> Response:
        """Answer one POST."""
        if self.batcher.full:  # before the body is read
            raise http_error(429)
        deadline = asyncio.get_running_loop().time() + self.settings.timeout
        try:
            async with asyncio.timeout_at(deadline):
                data = await read_json(request, self.settings.limits.body)
        except TimeoutError:
            raise http_error(408, f"the body did not arrive within {self.settings.timeout:g} s") from None
        except ClientDisconnect:
            raise http_error(400, "the client left before the end of the body") from None
        try:
            question = parse(data, self.ensemble, self.settings.limits)
            future = self.batcher.submit(question)
            async with asyncio.timeout_at(deadline):
                return JSONResponse(await asyncio.wrap_future(future))
        except ValueError as error:
            raise http_error(400, str(error)) from None
        except RuntimeError as error:
            raise http_error(500, str(error)) from None
        except queue.Full:
            raise http_error(429) from None
        except TimeoutError:
            raise http_error(504, f"no answer within {self.settings.timeout:g} s; the service is busy") from None


def make_app(ensemble, settings: Settings) -> FastAPI:
    """Make the service of an ensemble.

    Args:
        ensemble: a loaded RelevanceEnsemble; from now on the service's thread is its only user.
        settings: limits, queue, timeouts.

    Returns:
        An ASGI application; its lifespan ends with the last answer.
    """
    service = Service(ensemble, settings)

    @asynccontextmanager
    async def lifespan(app):
        yield
        await asyncio.to_thread(service.batcher.close)

    # FastAPI's own pages load scripts from a public CDN; `page` has one that does not
    app = FastAPI(title="product-relevance", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_endpoints(app, service)
    _add_page(app, service)
    app.add_exception_handler(HTTPException, _on_error)
    # the last one added sees a request first
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(RequireKey, access=settings.access)
    app.add_middleware(Watch, metrics=service.metrics)
    app.add_middleware(ReadToEnd, limit=settings.limits.body)
    return app


def _add_endpoints(app: FastAPI, service: Service) -> None:
    ensemble = service.ensemble
    described = openapi.describe_endpoints(
        service.settings.limits, ensemble.thresholds, ensemble.encoder.template.task, ensemble.grades
    )
    if service.settings.access.key is not None:
        described = openapi.with_key(described, service.settings.access.everywhere)

    # `/` is where Inference Endpoints and InferenceClient post
    @app.post("/", include_in_schema=False)
    @app.post("/predict", **described["predict"])
    async def predict(request: Request):
        """Score pairs, or rank texts: what the handler does under hf-serve."""
        return await service.respond(request, protocol.parse_request)

    @app.post("/rerank", **described["rerank"])
    async def rerank_texts(request: Request):
        """Rank texts for a query, in the shapes of text-embeddings-inference; documents as in /v1/rerank."""
        return await service.respond(request, rerank.parse_either)

    @app.post("/v1/rerank", **described["v1/rerank"])
    @app.post("/v2/rerank", **described["v2/rerank"])
    async def rerank_documents(request: Request):
        """Rank documents for a query, in the shapes of Cohere and Jina."""
        return await service.respond(request, rerank.parse_rerank)

    @app.get("/health", **described["health"])
    async def health():
        """Return whether requests are answered."""
        if not service.batcher.alive:
            raise http_error(503, "the scoring thread has stopped")
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=PlainTextResponse, **described["metrics"])
    async def metrics():
        """Show figures for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI, service: Service) -> None:
    template, settings = service.ensemble.encoder.template, service.settings
    key = settings.access.key is not None
    facts = PageFacts(template.task, service.ensemble.threshold, template.language_tag, key, settings.limits)
    html, headers = render_page(app.openapi(), facts)

    @app.get("/", include_in_schema=False)
    async def show_page():
        return HTMLResponse(html, headers=headers)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # registered for no other
    return error_response(error)


class Watch:
    """Counts and times requests, and turns an unforeseen exception into a 500 without its message.

    The server's own log would show the message, which may quote a client's text.
    """

    PATHS = frozenset({"/", "/predict", "/rerank", "/v1/rerank", "/v2/rerank", "/health", "/metrics"})

    def __init__(self, app, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watched(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))
            logger.error("request failed with %s\n%s", type(error).__name__, where)
            if not status:
                text = f"failed with {type(error).__name__}; the log of the server says where"
                await error_response(http_error(500, text))(scope, receive, watched)
        path = scope["path"] if scope["path"] in self.PATHS else "other"
        self.metrics.requests.labels(path, status).inc()
        self.metrics.seconds.labels(path).observe(time.perf_counter() - start)


def request_limits(max_pairs: int | None) -> Limits:
    """Return the limits of the environment, with `max_pairs` in place of its own unless None."""
    found = Limits.from_environment()
    return found if max_pairs is None else replace(found, pairs=max_pairs)


def make_server_config(app: FastAPI, settings: Settings, **options) -> uvicorn.Config:
    """Return uvicorn's configuration of a service, without a log of requests, which would show query strings."""
    names = ("max_connections", "header_timeout", "keep_alive")
    return connections.make_config(app, **{name: getattr(settings, name) for name in names}, **options)


def serve_ensemble(ensemble, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first.

    Raises:
        ValueError: the address cannot be taken, or the system allows fewer connections.
    """
    connections.require_descriptors(settings.max_connections)
    if settings.access.key is None and host not in ("127.0.0.1", "::1", "localhost"):
        logger.warning("whoever reaches %s:%d may ask: set %s to ask for a key", host, port, VARIABLE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(f"{host}:{port}: {error.strerror}; choose another --host or --port") from None
    config = make_server_config(
        make_app(ensemble, settings), settings, timeout_graceful_shutdown=int(settings.timeout) + 5
    )
    # uvicorn raises the signal again once it has shut down: the handlers of then make that the end with code 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
