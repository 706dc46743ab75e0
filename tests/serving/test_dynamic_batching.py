"""The queue and its thread: joined, limited, cancelled, never lost."""

import queue
import threading

import pytest

from product_relevance.serving.http.dynamic_batching import Batcher


class Asked(list):
    """A question: a list of its pairs."""

    pairs = property(lambda self: self)


def test_a_question_that_breaks_the_model_spoils_no_other():
    def answer(questions):
        if any(question.pairs == ["bad"] for question in questions):
            raise RuntimeError("broken")
        return [question.pairs for question in questions]

    batcher = Batcher(answer, max_pairs=10, max_queue=10, window=0.2)
    futures = [batcher.submit(Asked([name])) for name in ("a", "bad", "b")]
    batcher.close()
    assert [futures[0].result(), futures[2].result()] == [["a"], ["b"]]
    with pytest.raises(RuntimeError, match="broken"):
        futures[1].result()
    assert not batcher.alive


def test_a_batch_holds_no_more_pairs_than_allowed_unless_one_request_does():
    sizes = []

    def answer(questions):
        sizes.append([len(question) for question in questions])
        return list(questions)

    batcher = Batcher(answer, max_pairs=5, max_queue=100, window=0.2)
    futures = [batcher.submit(Asked(range(n))) for n in (2, 2, 2, 9, 1, 4, 5)]
    batcher.close()
    assert [len(future.result()) for future in futures] == [2, 2, 2, 9, 1, 4, 5]
    assert sizes == [[2, 2], [2], [9], [1, 4], [5]]


def test_a_cancelled_question_is_not_answered_and_a_full_queue_refuses():
    started, go_on, seen = threading.Event(), threading.Event(), []

    def answer(questions):
        started.set()
        go_on.wait(timeout=10)
        seen.extend(pair for question in questions for pair in question)
        return questions

    batcher = Batcher(answer, max_pairs=1, max_queue=2, window=0)
    first = batcher.submit(Asked(["first"]))
    assert started.wait(timeout=10)
    cancelled, last = batcher.submit(Asked(["cancelled"])), batcher.submit(Asked(["last"]))
    assert batcher.full and batcher.waiting == 2
    with pytest.raises(queue.Full):
        batcher.submit(Asked(["too many"]))
    assert cancelled.cancel()
    go_on.set()
    batcher.close()
    assert (first.result(), last.result(), seen) == (["first"], ["last"], ["first", "last"])
    with pytest.raises(queue.Full):
        batcher.submit(Asked(["after the end"]))
