"""Print errors that a user can fix as one line; all others keep their traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NO_GPU = ("not compiled with CUDA", "No CUDA GPUs", "no NVIDIA driver")  # parts of what torch says


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program with one line and exit code 1 where the block raises an error that a user can mend.

    Raises:
        SystemExit: in place of that error.
    """
    try:
        yield
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")


def one_line(error: Exception) -> str | None:
    """Return the message of an error for the user; None for an error that only a developer can fix."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | FloatingPointError | OSError):
        return str(error) or type(error).__name__
    text = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is missing ({text}): pip install {error.name}"
    if type(error).__name__ == "SafetensorError":  # the module is not imported for its name alone
        return f"a safetensors file is incomplete or broken ({text}): get it again"
    if isinstance(error, AssertionError | RuntimeError) and any(words in text for words in NO_GPU):
        return f"no GPU can be used here ({text}): take the CPU"
    return None
