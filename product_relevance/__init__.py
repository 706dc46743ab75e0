"""Multilingual product-search relevance: is a query relevant to a category path or an item title?

The public names load on first use: `import product_relevance` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from product_relevance.data.arguments import DataArguments
    from product_relevance.data.folds import assign_folds
    from product_relevance.data.leakage import check_leakage
    from product_relevance.data.records import read_records
    from product_relevance.data.sources.tables import Source
    from product_relevance.ensemble.ensemble import RelevanceEnsemble
    from product_relevance.ensemble.loading_arguments import LoadingArguments
    from product_relevance.ensemble.stack import RelevanceStack
    from product_relevance.evaluation.metrics import RowFacts, scores_report
    from product_relevance.models.arguments import ModelArguments
    from product_relevance.preparation.translation.translator import TranslatorOptions, load_translator
    from product_relevance.serving.endpoint import EndpointScorer
    from product_relevance.text.taxonomy import Taxonomy
    from product_relevance.text.templates import Template
    from product_relevance.training.arguments import ObjectiveArguments
    from product_relevance.training.run_config import RunConfig
    from product_relevance.training.train import TrainedRun, train
    from product_relevance.training.trainer import RelevanceTrainer

__version__ = "0.1.0"
HANDLER_API = 1  # what EndpointScorer takes and gives; the handler of a published ensemble asks for its own number
__all__ = [
    "DataArguments",
    "EndpointScorer",
    "LoadingArguments",
    "ModelArguments",
    "ObjectiveArguments",
    "RelevanceEnsemble",
    "RelevanceStack",
    "RelevanceTrainer",
    "RowFacts",
    "RunConfig",
    "Source",
    "Taxonomy",
    "Template",
    "TrainedRun",
    "TranslatorOptions",
    "__version__",
    "assign_folds",
    "check_leakage",
    "load_translator",
    "read_records",
    "scores_report",
    "train",
]
_PLACES = {
    "DataArguments": "data.arguments",
    "EndpointScorer": "serving.endpoint",
    "LoadingArguments": "ensemble.loading_arguments",
    "ModelArguments": "models.arguments",
    "ObjectiveArguments": "training.arguments",
    "RelevanceEnsemble": "ensemble.ensemble",
    "RelevanceStack": "ensemble.stack",
    "RelevanceTrainer": "training.trainer",
    "RowFacts": "evaluation.metrics",
    "RunConfig": "training.run_config",
    "Source": "data.sources.tables",
    "Taxonomy": "text.taxonomy",
    "Template": "text.templates",
    "TrainedRun": "training.train",
    "TranslatorOptions": "preparation.translation.translator",
    "assign_folds": "data.folds",
    "check_leakage": "data.leakage",
    "load_translator": "preparation.translation.translator",
    "read_records": "data.records",
    "scores_report": "evaluation.metrics",
    "train": "training.train",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
