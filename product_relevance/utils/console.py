"""What a terminal or a log shows: bars on a terminal, one line per stage elsewhere, no warning that helps nobody."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm.auto import tqdm

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Lines of other packages on which a user cannot act: the logger, how they begin or what they hold, and why.
NEEDLESS = {
    "bitsandbytes.backends.cpu.ops": ("Failed to load CPU gemm_4bit_forward",),  # a kernel that nf4 does not need
    "huggingface_hub.utils._http": ("thrown while requesting", "Retrying in"),  # the error after them says it once
    "DeepSpeed": ("Setting accelerator to CPU",),  # said wherever it is installed, also where it is not used
}
NEEDLESS_WARNINGS = (
    "Could not find a config file",  # PEFT looks for that of a base from a folder on the Hub, once per checkpoint
    "`is_gradient_checkpointing` is deprecated",  # PEFT reads it, at each fold
    "All adapters are already merged",  # PEFT merges once more, for each module that holds one
)


class _Without(logging.Filter):
    def __init__(self, parts: tuple[str, ...]):
        super().__init__()
        self.parts = parts

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(part in record.getMessage() for part in self.parts)


_FILTERS = {name: _Without(parts) for name, parts in NEEDLESS.items()}


def quiet_libraries() -> None:
    """Keep needless lines of other packages out of a program's log; of several processes the first one alone warns."""
    for name, without in _FILTERS.items():
        logging.getLogger(name).addFilter(without)
    for text in NEEDLESS_WARNINGS:
        warnings.filterwarnings("ignore", text)
    if not on_terminal():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if int(os.environ.get("RANK", 0)):  # launchers set it; what the others would say is what the first one says
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")


def on_terminal() -> bool:
    """Say whether progress bars can be drawn: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def bars_on_terminal_only(library: ModuleType) -> Iterator[None]:
    """Keep the bars that a library draws by itself out of a pipe or a log file.

    Args:
        library: `datasets`, or another one with its switches of progress bars.
    """
    switched = not on_terminal() and not library.are_progress_bars_disabled()
    if switched:
        library.disable_progress_bars()
    try:
        yield
    finally:
        if switched:
            library.enable_progress_bars()


def progress_bar(iterable: Iterable[T] = (), *, desc: str | None, shown: bool = True, **options: Any) -> "tqdm[T]":
    """Return tqdm's progress bar; where there is no terminal, log one line instead.

    Args:
        iterable: What to go through, nothing for a bar that is updated by hand.
        desc: What is done.
        shown: False for work that is too short for a bar.
        options: Of tqdm.
    """
    from tqdm.auto import tqdm

    if shown and not on_terminal():
        total = options.get("total") or (len(iterable) if isinstance(iterable, Sized) else 0)
        unit = options.get("unit", "step").strip().removesuffix("s")
        logger.info("%s: %s %ss", desc, f"{total:,}", unit)
    return tqdm(iterable, desc=desc, disable=not (shown and on_terminal()), **options)
