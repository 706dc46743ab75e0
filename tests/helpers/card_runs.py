"""A run as a card gets it, with made-up figures, and the cards of it."""

import re

import numpy as np

from product_relevance.ensemble.published.manifest_record import PublishedFold
from product_relevance.evaluation.metrics import RowFacts, best_threshold, scores_report
from product_relevance.hub.card_template import CardPlace
from product_relevance.hub.dataset_card import dataset_card
from product_relevance.hub.model_card import adapter_card, ensemble_card
from product_relevance.utils.run_record import PublicRunRecord

COMMIT = "0123456789" * 4


def measured(seed: int, cut: float | None = None) -> dict:
    rng = np.random.default_rng(seed)
    labels = (rng.random(400) < 0.7).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(size=400) - labels))
    languages = np.where(np.arange(400) < 398, rng.choice(["en", "vn", "pt"], 400), "pl")
    labels[398:] = 1
    return scores_report(labels, scores, cut or best_threshold(labels, scores)[0], RowFacts(languages.tolist()))


def make_run() -> dict:
    folds = [
        {"name": f"fold-{k}", "train_rows": 801 + k, "valid_rows": 400, "seconds": 1800.0, "metrics": measured(k)}
        for k in range(3)
    ]
    whole = measured(9, 0.37) | {"macro_f1_at_macro_threshold": 0.61}
    return {
        "format": 1,
        "task": "QC",
        "base": {"name": "embedded:e5-small", "revision": None, "fingerprint": "f" * 64},
        "adapter": {"r": 16, "alpha": 32, "dropout": 0.05, "target_modules": ["all-linear"]},
        "pooling": "pair",
        "max_length": 1024,
        "template": {"task": "QC", "input_style": "both", "language_tag": False},
        "labels": {"0": "irrelevant", "1": "relevant"},
        "folds_by": {"num_folds": 3, "group_by": "query", "prefix_levels": 2, "fold_seed": 42}
        | {"held_out_languages": [], "full": False},
        "data": {"source": "train_QC.txt", "sha256": "ab" * 32, "rows": 1200, "positive": 0.7}
        | {"languages": ["en", "pt", "vn"]},
        "recipe": {"learning_rate": 2e-05, "num_train_epochs": 3.0, "max_steps": -1, "seed": 42},
        "versions": {"python": "3.11.9", "product_relevance": "0.1.0", "torch": "2.13.0"},
        "device": "cpu",
        "processes": 1,
        "seconds": 5400.0,
        "finished": "2026-11-21T05:39:27+00:00",
        "thresholds": {"f1": 0.37, "macro_f1": 0.66},
        "thresholds_from": "1200 out-of-fold rows",
        "metrics": whole,
        "folds": folds,
    }


def full_run() -> dict:
    fold = {"name": "full", "train_rows": 1200, "valid_rows": 0, "seconds": 60.0}
    half = {"thresholds": {"f1": 0.5, "macro_f1": 0.5}, "thresholds_from": "default", "metrics": None}
    run = make_run() | half | {"folds": [fold]}
    return run | {"folds_by": run["folds_by"] | {"full": True}}


def on_hub(run: dict, name: str, **changes) -> dict:
    return run | {"base": {"name": name, "revision": COMMIT, "fingerprint": "f" * 64}} | changes


RUN = make_run()
PICTURES = {"F1 over thresholds": "figures/f1_over_threshold.png", "Reliability": "figures/reliability.png"}


def record(run: dict) -> PublicRunRecord:
    return PublicRunRecord.from_json(run)


def places(run: dict) -> list[PublishedFold]:
    names = [fold["name"] for fold in run["folds"]]
    return [PublishedFold(name=name, repo_id=f"acme/rel-{name}", path=".", files={}) for name in names]


def whole(run: dict, **options) -> str:
    return ensemble_card(
        record(run), places(run), CardPlace(repo_id="acme/rel", revision="v1", pictures=PICTURES), **options
    )


def single(run: dict, name: str = "fold-1", **options) -> str:
    return adapter_card(
        record(run), name, CardPlace(repo_id=f"acme/rel-{name}", **options), CardPlace(repo_id="acme/rel")
    )


def rows(run: dict, columns=("id", "language", "given_language", "label", "fold")) -> str:
    return dataset_card(record(run), CardPlace(repo_id="acme/rows", path="data/train.parquet"), list(columns))


def blocks(card: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", card, re.S)
