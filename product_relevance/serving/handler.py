"""Custom handler for Inference Endpoints: scores pairs or ranks texts with the ensemble of this repository."""

import sys
from pathlib import Path

HANDLER_API = 1  # of product_relevance, that this file was written for
FIRST_VERSION = "0.1.0"  # of the package, that has it


class EndpointHandler:
    """What a server of the Hub (hf-serve, huggingface-inference-toolkit) loads and calls."""

    def __init__(self, path: str, device: str | None = None):
        """Load base and adapters, each at the revision that ensemble.json pins, whatever revision the server got.

        Args:
            path: folder of this repository, or its id on the Hub.
            device: "cpu", "cuda"; a GPU when there is one if None.

        Raises:
            ImportError: the installed package is too old or too new for this file.
        """
        try:
            import product_relevance
        except ImportError:  # the repository brings the package's sources
            sys.path.append(str(Path(path) / "code"))
            import product_relevance
        require_api(product_relevance)
        from product_relevance import EndpointScorer

        self.scorer = EndpointScorer(path, device=device)

    def __call__(self, data: dict) -> list:
        """Answer one request; shapes and errors as in `product_relevance.EndpointScorer`."""
        return self.scorer(data)


def require_api(package) -> None:
    """Accept the package that is installed only if it has the API that this file was written for.

    Args:
        package: the module product_relevance.

    Raises:
        ImportError: another API; the message says which version to install.
    """
    found = getattr(package, "HANDLER_API", 0)
    if found == HANDLER_API:
        return
    if found < HANDLER_API:
        way_out = f"install product-relevance>={FIRST_VERSION}"
    else:
        way_out = "publish the ensemble again with it, or install the version that ensemble.json names"
    raise ImportError(
        f"this repository was published for handler API {HANDLER_API}, but the installed product-relevance "
        f"{getattr(package, '__version__', 'of an unknown version')} has {found or 'none'}: {way_out}; or uninstall "
        "it, and the sources in code/ are used"
    )
