"""Make the next item in a thread while the caller works on the one before."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def one_ahead(make: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what is made of each item, in order; one item is made ahead, so memory holds two at a time.

    Args:
        make: called in a thread; what it raises is raised where its item would be yielded.
        items: read in the caller's thread.
    """
    coming: Future[R] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="one-ahead") as thread:
        for item in items:
            made, coming = coming, thread.submit(make, item)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()
