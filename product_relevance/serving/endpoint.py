"""Answer requests of a server of the Hub: what the handler of a published ensemble hands its requests to."""

import threading
from pathlib import Path

from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.serving.limits import Limits
from product_relevance.serving.protocol import parse_request
from product_relevance.serving.scorer import answer_together


class EndpointScorer:
    """Scores pairs, or ranks texts, in the shapes of Inference Endpoints.

    What it takes and gives is fixed by `product_relevance.HANDLER_API`: a change that a handler notices raises that
    number.

    Example:
        >>> scorer = EndpointScorer("path/of/an/ensemble")
        >>> scorer({"inputs": {"text": "zapatos rojos", "text_pair": "shoes,women's shoes"}})
        [[{"label": "relevant", "score": 0.93, "probability": 0.93, "threshold": 0.41}]]
        >>> scorer({"query": "zapatos rojos", "texts": ["shoes,women's shoes", "pet supplies"]})
        [{"index": 0, "score": 0.93, "relevant": True}, {"index": 1, "score": 0.02, "relevant": False}]
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        """Load base and adapters, each at the revision that ensemble.json pins.

        Args:
            path: folder of an ensemble, or its id on the Hub.
            device: "cpu", "cuda"; a GPU when there is one if None.

        Raises:
            ValueError: as in `RelevanceEnsemble.from_pretrained`; a limit in the environment that is no number.
        """
        self.limits = Limits.from_environment()
        self.ensemble = RelevanceEnsemble.from_pretrained(str(path), device=device).of_task(None)
        self._one_at_a_time = threading.Lock()  # the folds share one base

    def __call__(self, data: object) -> list:
        """Answer one request.

        Args:
            data: {"inputs": pair or list of pairs, "parameters": {...}} or {"query": ..., "texts": [...]}; a pair is
                {"text": query, "text_pair": target} or [query, target].

        Returns:
            For pairs one list of labels each, the decision first; for a query with texts its places, best first.

        Raises:
            ValueError: the request is at fault; servers answer 400. No message holds a text of the client.
            RuntimeError: the model is at fault; servers answer 500.
        """
        question = parse_request(data, self.ensemble, self.limits)
        with self._one_at_a_time:
            (result,) = answer_together(self.ensemble, [question], self.limits)
        if isinstance(result, ValueError):
            raise result
        assert isinstance(result, list)  # `parse_request` reads no request of another API
        return result
