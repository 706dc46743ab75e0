"""An engine that is stopped in the middle of a file."""

from product_relevance.serving.engines.engine_process import EngineProcess


def stop_third_score(monkeypatch) -> list[int]:
    """Stop the third call, after the canaries and one chunk, as Ctrl-C does; gives the rows of each call."""
    score, calls = EngineProcess.score, []

    def stop_in_the_middle(self, ids):
        calls.append(len(ids))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, ids)

    monkeypatch.setattr(EngineProcess, "score", stop_in_the_middle)
    return calls
