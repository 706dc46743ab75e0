"""Fill the cards of folds and ensembles for the Hub from a run."""

from typing import Any

from huggingface_hub import ModelCardData
from markupsafe import Markup

from product_relevance.ensemble.published.manifest_record import PublishedFold
from product_relevance.hub import card_facts, card_tables
from product_relevance.hub.card_tables import Measured
from product_relevance.hub.card_template import (
    TAGS,
    CardPlace,
    checked_path,
    checked_repo,
    checked_revision,
    common_values,
    iso_codes,
    link_to_repo,
    render_card,
)
from product_relevance.hub.markdown import base_name
from product_relevance.models.loading import packaged_bases
from product_relevance.text.templates import PairFacts, Template
from product_relevance.utils.run_record import PublicRunRecord

PAIRS = {  # (query, target, language) of the snippets; hand-written
    "QC": [("zapatillas running mujer", "shoes,women's shoes", "es"), ("usb kabel", "shoes,women's shoes", "de")],
    "QI": [("zapatillas running mujer", "Women's running shoes", "es"), ("usb kabel", "Women's running shoes", "de")],
}
RANKED = {
    "QC": ["shoes,women's shoes", "consumer electronics,cables"],
    "QI": ["Women's running shoes", "USB-C charging cable, 1 m"],
}


def adapter_card(run: PublicRunRecord, name: str, place: CardPlace, ensemble: CardPlace) -> str:
    """Write the card of one fold.

    Args:
        run: public part of a run (`manifest.public_run`).
        name: of the fold, as "fold-0".
        place: of the fold.
        ensemble: of the fold's ensemble.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a fold that the run does not have, or no templates.
    """
    fold = next((f for f in run.folds if f["name"] == name), None)
    if fold is None:
        raise ValueError(f"{name}: no such fold; the run has {', '.join(run.fold_names)}")
    measured = fold.get("metrics")
    values = _values(run, measured, place, fold["seconds"]) | {
        "fold": fold,
        "path": place.path,
        "ensemble_id": ensemble.repo_id,
        "ensemble_revision": ensemble.revision,
        "plain": card_facts.loads_plainly(run),
        "rendered": _rendered(run),
    }
    return render_card("adapter.md", _metadata(run, place.repo_id, measured, fold["seconds"]), values)


def ensemble_card(
    run: PublicRunRecord, folds: list[PublishedFold], place: CardPlace, dataset_id: str | None = None
) -> str:
    """Write the card of the ensemble.

    Args:
        run: public part of a run (`manifest.public_run`).
        folds: as in ensemble.json; their revisions may still be None.
        place: of the ensemble.
        dataset_id: repository of the published data set, if there is one.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a malformed id, revision or path of a fold or the data set, or no templates.
    """
    values = _values(run, run.metrics, place, run.seconds) | {
        "folds": card_tables.fold_table(run, [(fold.name, _place(fold, place.repo_id)) for fold in folds]),
        "count": len(folds),
        "dataset_id": dataset_id and checked_repo(dataset_id),
    }
    return render_card("ensemble.md", _metadata(run, place.repo_id, run.metrics, run.seconds, dataset_id), values)


def _metadata(
    run: PublicRunRecord,
    repo_id: str,
    measured: Measured | None,
    seconds: float,
    dataset_id: str | None = None,
):
    base, lora = card_facts.base_facts(run.base), run.adapter is not None
    emitted = card_facts.estimate_carbon(run, seconds)
    optional: dict[str, Any] = {}
    if base["hub"]:
        optional["base_model_relation"] = "adapter" if lora else "finetune"
    if emitted:
        optional["co2_eq_emissions"] = {
            "emissions": round(emitted["grams"], 3),
            "source": "estimate: time x highest power of the card x world mean of the grid; see the card",
            "training_type": "fine-tuning",
            "hardware_used": f"{emitted['cards']} x {run.device}",
        }
    return ModelCardData(
        base_model=base["hub"],
        library_name="peft" if lora else "transformers",
        license=base["licence"],
        license_name=None if base["licence_name"] else "unknown",
        language=iso_codes(run.data["languages"]) or None,
        pipeline_tag="text-classification",
        tags=[*TAGS, "query-category" if run.task == "QC" else "query-item", *(["lora"] if lora else [])],
        metrics=["f1", "roc_auc"] if measured else None,
        datasets=[checked_repo(dataset_id)] if dataset_id else None,
        model_name=repo_id,
        eval_results=card_tables.eval_results(run, measured, dataset_id) or None,
        **optional,
    )


def _values(run: PublicRunRecord, measured: Measured | None, place: CardPlace, seconds: float) -> dict[str, Any]:
    base, pairs = card_facts.base_facts(run.base), PAIRS[run.task]
    key = base["name"].removeprefix(packaged_bases.PREFIX)
    return common_values(run, place) | {
        "base": base | {"name": base_name(base["name"])},
        "package": packaged_bases.BASES[key]["package"] if base["embedded"] else None,
        "grades": len(run.labels),
        "measured": measured,
        "gain": measured["f1"] - measured["floor_f1"] if measured else None,
        "scores": card_tables.score_table(run, measured) if measured else None,
        "by_language": card_tables.language_table(run, measured) if measured else None,
        "pictures": place.pictures,
        "recipe": card_tables.recipe_table(run),
        "versions": ", ".join(f"{name} {value}" for name, value in run.versions.items()),
        "time": _time(seconds),
        "carbon": card_facts.estimate_carbon(run, seconds),
        "ranked": RANKED[run.task],
        "pairs": [pair[:2] for pair in pairs],
        "codes": [pair[2] for pair in pairs] if run.template["language_tag"] else None,
    }


def _place(fold: PublishedFold, home: str) -> Markup:
    if fold.repo_id is None:
        return Markup(f"folder `{checked_path(fold.path)}`")
    where = Markup("a branch of this repository") if fold.repo_id == home else link_to_repo(fold.repo_id)
    return where + Markup(f" at `{checked_revision(fold.revision)[:12]}`") if fold.revision else where


def _rendered(run: PublicRunRecord) -> tuple[str, str]:
    """Return the first pair of the snippets as the model reads it."""
    query, target, language = PAIRS[run.task][0]
    (text,), (pair,) = Template.from_dict(run.template).render([query], [target], PairFacts([language]))
    return text, pair


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
