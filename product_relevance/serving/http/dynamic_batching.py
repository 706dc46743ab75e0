"""Score in one thread, and join requests that wait at the same time into one pass of the model."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from product_relevance.serving.protocol import Answer, Question


class Batcher:
    """Queue of questions with a limit, and the thread that answers them.

    Args:
        answer: from a list of questions (each with `pairs`) to a list of answers or exceptions; called by one thread.
        max_pairs: pairs joined at most; a question with more goes alone.
        max_queue: questions that may wait.
        window: seconds to wait for others once there is work.
    """

    def __init__(
        self,
        answer: Callable[[list[Question]], Sequence[Answer | Exception]],
        *,
        max_pairs: int,
        max_queue: int,
        window: float,
    ):
        self._answer, self.max_pairs, self.max_queue, self.window = answer, max_pairs, max_queue, window
        self._waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def submit(self, question: Question) -> Future[Answer]:
        """Queue a question; a cancelled future is not scored.

        Raises:
            queue.Full: `max_queue` questions wait.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if self.full or self._closed:
                raise queue.Full
            self._waiting.append((question, future))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Questions that wait for the thread."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next question would be refused."""
        return len(self._waiting) >= self.max_queue

    @property
    def alive(self) -> bool:
        """Whether questions are answered."""
        return self._thread.is_alive() and not self._closed

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            batch = self._take()
            if batch:
                self._settle(batch)

    def _wait(self) -> bool:
        """Wait for work, then for more of it; return whether there is any."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            self._changed.wait_for(self._enough, timeout=self.window)
            return bool(self._waiting)

    def _enough(self) -> bool:
        return self._closed or sum(len(question.pairs) for question, _ in self._waiting) >= self.max_pairs

    def _take(self) -> list[tuple[Question, Future[Answer]]]:
        batch: list[tuple[Question, Future[Answer]]] = []
        pairs = 0
        with self._changed:
            while self._waiting and (not batch or pairs + len(self._waiting[0][0].pairs) <= self.max_pairs):
                question, future = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    batch.append((question, future))
                    pairs += len(question.pairs)
        return batch

    def _settle(self, batch: list[tuple[Question, Future[Answer]]]) -> None:
        try:
            results = self._answer([question for question, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # one question must not spoil the others
                for item in batch:
                    self._settle([item])
                return
            results = [error]
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
