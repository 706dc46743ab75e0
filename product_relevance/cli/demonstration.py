"""`relevance demo`: a page in the browser to try a model."""

import argparse
from pathlib import Path

from product_relevance.cli.flags import Commands, add_command, add_device, add_model
from product_relevance.utils.extras import how_to_install


def add_commands(commands: Commands) -> None:
    """Add `demo`."""
    parser = add_command(commands, "demo", show_page, "try a model on a page in the browser")
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: other machines reach it")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    add_device(parser)


def show_page(arguments: argparse.Namespace) -> None:
    """Show the page until the process is interrupted."""
    try:
        from product_relevance.serving.demo.page import build_page, launch_page
    except ModuleNotFoundError as error:
        raise ValueError(f"demo needs {error.name}: {how_to_install('demo')}") from None
    from product_relevance.ensemble.ensemble import RelevanceEnsemble
    from product_relevance.serving.demo.answers import DemoAnswers
    from product_relevance.serving.limits import Limits

    options = {"revision": arguments.revision, "device": arguments.device, "dtype": arguments.dtype}
    ensemble = RelevanceEnsemble.from_pretrained(arguments.model, **options)
    name = arguments.model if ensemble.manifest else Path(arguments.model).name
    launch_page(build_page(DemoAnswers(ensemble, Limits.from_environment()), name), arguments.host, arguments.port)
