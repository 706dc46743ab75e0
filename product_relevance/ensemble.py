"""The ensemble of a run: one base in memory, its fold adapters switched, the mean of their probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from product_relevance import adapters, modeling
from product_relevance.batching import encode_pairs
from product_relevance.metrics import probabilities
from product_relevance.predictor import predict_logits
from product_relevance.run import finished_folds, fold_folder, load_run
from product_relevance.taxonomy import Taxonomy
from product_relevance.templates import Template

VOTES = ("mean", "majority", "weighted")


class RelevanceEnsemble:
    """Scores (query, target) pairs with every fold model of a run.

    Example:
        >>> ensemble = RelevanceEnsemble.from_pretrained("runs/quickstart")
        >>> ensemble.predict([("zapatos rojos", "shoes,women's shoes")])
        array([0.93])
    """

    def __init__(self, model, tokenizer, run: dict, folds: dict[str, Path], taxonomy: Taxonomy | None = None):
        self.model, self.tokenizer, self.run, self.folds, self.taxonomy = model, tokenizer, run, folds, taxonomy
        self.template = Template.from_dict(run["template"])
        self.thresholds = run["thresholds"]

    @classmethod
    def from_pretrained(cls, folder: str, *, device: str | None = None, dtype: str = "auto") -> "RelevanceEnsemble":
        """Load a run folder.

        Args:
            folder: made by train_relevance.py.
            device: "cpu", "cuda", "cuda:1"; a GPU when there is one if None.
            dtype: of the base: auto, bfloat16, float32.

        Raises:
            ValueError: no finished fold, or base and adapters that do not belong together.
        """
        run, names = load_run(folder), finished_folds(folder)
        if not names:
            raise ValueError(f"{folder}: no finished fold; expected fold-0/fold.json and the like")
        base, device = run["base"], device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = modeling.auto_dtype(device) if dtype == "auto" else dtype
        tokenizer = modeling.load_tokenizer(base["name"], base["revision"])
        model = modeling.load_classifier(
            base["name"], tokenizer, base["revision"], pooling=run["pooling"], dtype=dtype
        )
        _check_base(folder, base, model)
        folds = {name: fold_folder(folder, name) for name in names}
        if run["adapter"] is not None:
            for name, path in folds.items():
                model = adapters.load_adapter(model, str(path), name)
        model.to(device).eval()
        tree = Path(folder) / "taxonomy.json"
        return cls(model, tokenizer, run, folds, Taxonomy.load(tree) if tree.is_file() else None)

    @property
    def threshold(self) -> float:
        """The cut with the best positive F1 on the run's out-of-fold scores."""
        return self.thresholds["f1"]

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        languages: Sequence[str] | None = None,
        translations: Sequence[str] | None = None,
        *,
        vote: str = "mean",
        progress: bool = False,
    ) -> np.ndarray:
        """Return the probability that each target is relevant to its query.

        Args:
            pairs: n pairs (query, target); raw text, cleaned here as in training.
            languages: n competition codes, read by templates with a language tag.
            translations: n English translations, read by templates with a translation; the query itself if None.
            vote: `mean` of the folds' probabilities; `majority`, the share of folds whose probability reaches the
                threshold; `weighted`, the same with folds weighted by their out-of-fold F1.
            progress: show a progress bar.

        Returns:
            Array of shape (n,) in [0, 1]. For votes the natural cut is 0.5.

        Raises:
            ValueError: an unknown vote, or lists of unlike length.
        """
        if vote not in VOTES:
            raise ValueError(f"vote {vote!r}: expected one of {', '.join(VOTES)}")
        return self.combine(self.predict_folds(pairs, languages, translations, progress=progress), vote)

    def combine(self, scores: np.ndarray, vote: str = "mean") -> np.ndarray:
        """Combine fold probabilities of shape (n, folds) into (n,), as `predict` does."""
        if vote == "mean":
            return scores.mean(axis=1)
        weights = np.ones(len(self.folds)) if vote == "majority" else self._fold_f1()
        return (scores >= self.threshold) @ (weights / weights.sum())

    def predict_folds(self, pairs, languages=None, translations=None, *, progress: bool = False) -> np.ndarray:
        """Return the probabilities of each fold model, shape (n, folds); arguments as in `predict`."""
        texts, targets = self._render(pairs, languages, translations)
        ids = encode_pairs(self.tokenizer, texts, targets, self.run["max_length"])
        columns = []
        for name in self.folds:
            self._select(name)
            logits = predict_logits(self.model, ids, self.tokenizer.pad_token_id, progress=name if progress else None)
            columns.append(probabilities(logits))
        return np.stack(columns, axis=1)

    def rank(self, query: str, targets: Sequence[str], top_k: int | None = None, language=None, translation=None):
        """Order targets by relevance to one query.

        Returns:
            Dicts `index` (place in `targets`), `score`, `target`; best first, `top_k` of them (all if None).
        """
        languages = None if language is None else [language] * len(targets)
        translations = None if translation is None else [translation] * len(targets)
        scores = self.predict([(query, target) for target in targets], languages, translations)
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [{"index": int(i), "score": float(scores[i]), "target": targets[i]} for i in order]

    def _render(self, pairs, languages, translations):
        for name, values in (("languages", languages), ("translations", translations)):
            if values is not None and len(values) != len(pairs):
                raise ValueError(f"{len(pairs)} pairs but {len(values)} {name}")
        bad = next(
            (i for i, pair in enumerate(pairs) if len(pair) != 2 or not all(isinstance(t, str) for t in pair)),
            None,
        )
        if bad is not None:
            raise ValueError(f"pair {bad}: found {str(pairs[bad])[:80]!r}, expected (query, target), two strings")
        queries, targets = [q for q, _ in pairs], [t for _, t in pairs]
        return self.template.render(queries, targets, languages, translations, self.taxonomy)

    def _select(self, name: str) -> None:
        if self.run["adapter"] is not None:
            self.model.set_adapter(name)
            return
        from safetensors.torch import load_file

        self.model.load_state_dict(load_file(self.folds[name] / "model.safetensors"))

    def _fold_f1(self) -> np.ndarray:
        found = {fold["name"]: (fold.get("metrics") or {}).get("f1") for fold in self.run["folds"]}
        return np.array([found.get(name) or 1.0 for name in self.folds])


def _check_base(folder: str, base: dict, model) -> None:
    if base.get("fingerprint") is None:
        return
    found = modeling.fingerprint(model)
    if found != base["fingerprint"]:
        raise ValueError(
            f"{folder}: its adapters were trained on another base than {base['name']} as it is now (weights "
            f"{found[:12]}, expected {base['fingerprint'][:12]}): restore that base or pin its revision"
        )
