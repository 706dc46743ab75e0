"""Custom handler for Inference Endpoints: scores pairs or ranks texts with the ensemble of this repository."""

import sys
import threading
from pathlib import Path


class EndpointHandler:
    """What a server of the Hub (hf-serve, huggingface-inference-toolkit) loads and calls.

    Example:
        >>> handler = EndpointHandler("path/of/this/repository")
        >>> handler({"inputs": {"text": "zapatos rojos", "text_pair": "shoes,women's shoes"}})
        [[{"label": "relevant", "score": 0.93, "probability": 0.93, "threshold": 0.41}]]
        >>> handler({"query": "zapatos rojos", "texts": ["shoes,women's shoes", "pet supplies"]})
        [{"index": 0, "score": 0.93, "relevant": True}, {"index": 1, "score": 0.02, "relevant": False}]
    """

    def __init__(self, path: str, device: str | None = None):
        """Load base and adapters, each at the revision that ensemble.json pins, whatever revision the server got.

        Args:
            path: folder of this repository, or its id on the Hub.
            device: "cpu", "cuda"; a GPU when there is one if None.
        """
        try:
            import product_relevance  # noqa: F401
        except ImportError:  # the repository brings the package's sources
            sys.path.append(str(Path(path) / "code"))
        from product_relevance import RelevanceEnsemble
        from product_relevance.serving import protocol, scorer

        self._parse, self._answer_together = protocol.parse_request, scorer.answer_together
        self.limits = protocol.Limits.from_environment()
        self.ensemble = RelevanceEnsemble.from_pretrained(path, device=device).of_task(None)
        self._one_at_a_time = threading.Lock()  # the folds share one base

    def __call__(self, data: dict) -> list:
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
        question = self._parse(data, self.ensemble, self.limits)
        with self._one_at_a_time:
            (result,) = self._answer_together(self.ensemble, [question], self.limits)
        if isinstance(result, ValueError):
            raise result
        return result
