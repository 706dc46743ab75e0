"""`relevance serve` and `relevance export`: a run for other programs."""

import argparse
from dataclasses import fields

from product_relevance.cli.flags import Commands, add_command, add_device, add_limit, add_model
from product_relevance.utils.extras import how_to_install


def add_commands(commands: Commands) -> None:
    """Add `serve` and `export`."""
    _add_serve(commands)
    _add_export(commands)


def _add_serve(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        serve_run,
        "answer requests over HTTP: /predict, /rerank, /v2/rerank, /health, /metrics",
    )
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: other machines reach it")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--max_pairs", type=int, help="pairs per request (default 32, or RELEVANCE_MAX_PAIRS)")
    parser.add_argument("--max_queue", type=int, default=512, help="requests that may wait (default 512)")
    parser.add_argument(
        "--timeout", type=float, default=30, help="seconds until a request without an answer gets 504 (default 30)"
    )
    parser.add_argument(
        "--max_connections", type=int, default=512, help="connections that may be open at once (default 512)"
    )
    waits = "seconds for a request's headers to come and for an answer to be read (default 10)"
    parser.add_argument("--header_timeout", type=float, default=10, help=waits)
    parser.add_argument(
        "--keep_alive",
        type=float,
        default=5,
        help="seconds that a connection without a request stays open (default 5)",
    )
    parser.add_argument(
        "--batch_window_ms",
        type=float,
        default=5,
        help="milliseconds to wait for requests that can be scored together (default 5)",
    )
    parser.add_argument(
        "--key_everywhere",
        action="store_true",
        help="ask for the key in RELEVANCE_API_KEY on /health, /metrics and the page, too",
    )
    add_device(parser)


def _add_export(commands: Commands) -> None:
    parser = add_command(commands, "export", export_run, "write one model for other programs: transformers, ONNX")
    add_model(parser)
    parser.add_argument("--output", required=True, help="folder of the model")
    parser.add_argument("--fold", help="export this fold alone, as fold-0 (default: the mean weights of all folds)")
    add_limit(parser)
    parser.add_argument(
        "--dtype", default="float32", help="precision of the written weights: float32, bfloat16, float16"
    )
    graph = "write an ONNX graph too, of a pooled head it alone: float32, or int8 (scores within --max_disagreement)"
    parser.add_argument("--onnx", choices=["float32", "int8"], help=graph)
    parser.add_argument("--overwrite", action="store_true", help="replace a finished export")


def serve_run(arguments: argparse.Namespace) -> None:
    """Answer requests over HTTP."""
    try:
        from product_relevance.serving.http import server
        from product_relevance.serving.http.access import Access
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs {error.name}: {how_to_install('serve')}") from None
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    settings = server.Settings(
        server.request_limits(arguments.max_pairs),
        max_queue=arguments.max_queue,
        timeout=arguments.timeout,
        window=arguments.batch_window_ms / 1000,
        max_connections=arguments.max_connections,
        header_timeout=arguments.header_timeout,
        keep_alive=arguments.keep_alive,
        access=Access.from_environment(arguments.key_everywhere),
    )
    options = {"revision": arguments.revision, "device": arguments.device, "dtype": arguments.dtype}
    ensemble = RelevanceEnsemble.from_pretrained(arguments.model, **options).of_task(None)
    server.serve_ensemble(ensemble, settings, arguments.host, arguments.port)


def export_run(arguments: argparse.Namespace) -> None:
    """Write one plain classifier."""
    from product_relevance.serving.export.export_options import ExportOptions
    from product_relevance.serving.export.transformers_export import export_classifier

    options = ExportOptions(**{each.name: getattr(arguments, each.name) for each in fields(ExportOptions)})
    print(export_classifier(arguments.model, arguments.output, options))
