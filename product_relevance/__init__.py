"""Multilingual product-search relevance: is a query relevant to a category path or an item title?"""

__version__ = "0.1.0"
__all__ = ["RelevanceEnsemble", "__version__"]


def __getattr__(name: str):
    # torch loads only when a model is asked for
    if name == "RelevanceEnsemble":
        from product_relevance.ensemble.ensemble import RelevanceEnsemble

        return RelevanceEnsemble
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
