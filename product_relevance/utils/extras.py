"""Name the optional parts of this package, and how to install them."""

from importlib.metadata import version
from importlib.util import find_spec

from product_relevance.utils.shipped import INSTALLED


def how_to_install(extra: str) -> str:
    """Say how an optional part is installed; the package is not on PyPI.

    Args:
        extra: Name in pyproject.toml.

    Returns:
        The command for the wheel where the package came from one, else for a clone.
    """
    if INSTALLED.is_dir():
        return f"pip install 'product_relevance-{version('product-relevance')}-py3-none-any.whl[{extra}]'"
    return f"pip install '.[{extra}]' in a clone of this project"


def has_package(name: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    return find_spec(name) is not None
