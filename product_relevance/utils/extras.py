"""Name the optional parts of this package, and how to install them."""


def how_to_install(extra: str) -> str:
    """Say how an optional part is installed; the package is not on PyPI.

    Args:
        extra: Name in pyproject.toml.
    """
    return f"pip install '.[{extra}]' in a clone of this project"
