"""The next item is made while the one before is worked on, in order, and its error comes in its place."""

import threading

import pytest

from product_relevance.ensemble.files.one_ahead import one_ahead


@pytest.mark.parametrize("count", [0, 1, 5])
def test_items_come_in_order(count):
    assert list(one_ahead(lambda number: number * number, range(count))) == [n * n for n in range(count)]


def test_the_next_item_is_made_while_the_caller_works_and_no_more_than_one():
    started = [threading.Event() for _ in range(4)]

    def make(number):
        started[number].set()
        return number

    made = one_ahead(make, range(4))
    assert next(made) == 0
    assert started[1].wait(10)  # the caller asked for the first one only
    assert not started[2].is_set()
    assert list(made) == [1, 2, 3]


def test_an_error_is_raised_where_its_item_would_come():
    made = one_ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(made) == 1
    with pytest.raises(ZeroDivisionError):
        next(made)
