"""Cards for the Hub: Markdown from the templates in model_cards/, filled from a run, with metadata on top."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from product_relevance import card_facts, card_results, embedded
from product_relevance.card_results import TARGETS
from product_relevance.languages import LANGUAGES, to_iso
from product_relevance.markdown import base_name, markdown, one_line, word
from product_relevance.templates import Template

FOLDER = Path(__file__).parents[1] / "model_cards"
PAIRS = {  # (query, target, language) of the snippets; hand-written
    "QC": [("zapatillas running mujer", "shoes,women's shoes", "es"), ("usb kabel", "shoes,women's shoes", "de")],
    "QI": [("zapatillas running mujer", "Women's running shoes", "es"), ("usb kabel", "Women's running shoes", "de")],
}
RANKED = {
    "QC": ["shoes,women's shoes", "consumer electronics,cables"],
    "QI": ["Women's running shoes", "USB-C charging cable, 1 m"],
}
TAGS = ["product-search", "e-commerce", "relevance", "product-relevance"]
TEXT_COLUMNS = {
    "query", "origin_query", "target", "clean_target", "category_path", "item_title", "translated_query", "original",
    "text", "text_pair",
}  # fmt: skip


def adapter_card(
    run: dict,
    name: str,
    *,
    repo_id: str,
    ensemble_id: str,
    revision: str = "main",
    path: str = ".",
    ensemble_revision: str = "main",
    pictures: Mapping[str, str] | None = None,
) -> str:
    """Write the card of one fold.

    Args:
        run: public part of a run (`manifest.public_run`).
        name: of the fold, as "fold-0".
        repo_id: repository of the fold on the Hub.
        ensemble_id: repository of its ensemble.
        revision: tag, branch or commit that the snippets load.
        path: folder of the fold in its repository, "." for the top.
        ensemble_revision: tag, branch or commit of the ensemble that the snippets load.
        pictures: title to path in the repository.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a fold that the run does not have, a malformed id, revision or path, or no templates.
    """
    fold = next((f for f in run["folds"] if f["name"] == name), None)
    if fold is None:
        raise ValueError(f"{name}: no such fold; the run has {', '.join(f['name'] for f in run['folds'])}")
    measured = fold.get("metrics")
    values = _values(run, measured, repo_id, revision, pictures, fold["seconds"]) | {
        "fold": fold,
        "path": _relative(path),
        "ensemble_id": _repo(ensemble_id),
        "ensemble_revision": _revision(ensemble_revision),
        "plain": card_facts.loads_plainly(run),
        "rendered": _rendered(run),
    }
    return _render("adapter.md", _metadata(run, repo_id, measured, fold["seconds"]), values)


def ensemble_card(
    run: dict,
    folds: list[dict],
    *,
    repo_id: str,
    revision: str = "main",
    dataset_id: str | None = None,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """Write the card of the ensemble.

    Args:
        run: public part of a run (`manifest.public_run`).
        folds: `folds` of ensemble.json: name, repo_id, revision, path; repo_id and revision may still be None.
        repo_id: repository of the ensemble on the Hub.
        revision: tag, branch or commit that the snippets load.
        dataset_id: repository of the published data set, if there is one.
        pictures: title to path in the repository.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a malformed id, revision or path, or no templates.
    """
    values = _values(run, run["metrics"], repo_id, revision, pictures, run["seconds"]) | {
        "folds": card_results.fold_table(run, [(fold["name"], _place(fold, repo_id)) for fold in folds]),
        "count": len(folds),
        "dataset_id": dataset_id and _repo(dataset_id),
    }
    return _render("ensemble.md", _metadata(run, repo_id, run["metrics"], run["seconds"], dataset_id), values)


def dataset_card(
    run: dict,
    *,
    repo_id: str,
    columns: list[str],
    file: str,
    ensemble_id: str | None = None,
    revision: str = "main",
) -> str:
    """Write the card of the prepared data set.

    Args:
        run: public part of a run (`manifest.public_run`).
        repo_id: repository of the data set on the Hub.
        columns: names of the published columns; the card says whether texts are among them.
        file: path of the data in the repository.
        ensemble_id: repository of the ensemble trained on it.
        revision: tag, branch or commit that the snippet loads.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a malformed id, revision or path, or no templates.
    """
    codes = _languages(run)
    metadata = DatasetCardData(
        language=codes or None,
        license="unknown",
        multilinguality=("multilingual" if len(codes) > 1 else "monolingual") if codes else None,
        size_categories=_size(run["data"]["rows"]),
        task_categories=["text-classification"],
        pretty_name=f"{run['task']} relevance with folds",
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": _relative(file)}],
    )
    values = _common(run, repo_id, revision) | {
        "columns": columns,
        "texts": [name for name in columns if name in TEXT_COLUMNS],
        "ensemble_id": ensemble_id and _repo(ensemble_id),
    }
    return _render("dataset.md", metadata, values)


def _metadata(run: dict, repo_id: str, measured: dict | None, seconds: float, dataset_id: str | None = None):
    base, lora = card_facts.base_facts(run["base"]), run["adapter"] is not None
    emitted, optional = card_facts.carbon(run, seconds), {}
    if base["hub"]:
        optional["base_model_relation"] = "adapter" if lora else "finetune"
    if emitted:
        optional["co2_eq_emissions"] = {
            "emissions": round(emitted["grams"], 3),
            "source": "estimate: time x highest power of the card x world mean of the grid; see the card",
            "training_type": "fine-tuning",
            "hardware_used": f"{emitted['cards']} x {run['device']}",
        }
    return ModelCardData(
        base_model=base["hub"],
        library_name="peft" if lora else "transformers",
        license=base["licence"],
        license_name=None if base["licence_name"] else "unknown",
        language=_languages(run) or None,
        pipeline_tag="text-classification",
        tags=[*TAGS, "query-category" if run["task"] == "QC" else "query-item", *(["lora"] if lora else [])],
        metrics=["f1", "roc_auc"] if measured else None,
        datasets=[_repo(dataset_id)] if dataset_id else None,
        model_name=_repo(repo_id),
        eval_results=card_results.eval_results(run, measured, dataset_id) or None,
        **optional,
    )


def _common(run: dict, repo_id: str, revision: str) -> dict[str, Any]:
    data = run["data"]
    return {
        "run": run,
        "data": data,
        "repo_id": _repo(repo_id),
        "revision": _revision(revision),
        "target": TARGETS[run["task"]],
        "languages": [_named(code) for code in data["languages"]],
        "others": [_named(code) for code in LANGUAGES if code not in data["languages"]],
        "version": word(run["versions"].get("product_relevance")),
        "year": word(str(run.get("finished") or "")[:4]),
    }


def _values(run: dict, measured: dict | None, repo_id: str, revision: str, pictures, seconds: float) -> dict[str, Any]:
    base, pairs = card_facts.base_facts(run["base"]), PAIRS[run["task"]]
    key = base["name"].removeprefix(embedded.PREFIX)
    return _common(run, repo_id, revision) | {
        "base": base | {"name": base_name(base["name"])},
        "package": embedded.BASES[key]["package"] if base["embedded"] else None,
        "measured": measured,
        "gain": measured["f1"] - measured["floor_f1"] if measured else None,
        "scores": card_results.score_table(run, measured) if measured else None,
        "by_language": card_results.language_table(run, measured) if measured else None,
        "pictures": {title: _relative(path) for title, path in (pictures or {}).items()},
        "recipe": card_results.recipe_table(run),
        "versions": ", ".join(f"{name} {value}" for name, value in run["versions"].items()),
        "time": _time(seconds),
        "carbon": card_facts.carbon(run, seconds),
        "ranked": RANKED[run["task"]],
        "pairs": [pair[:2] for pair in pairs],
        "codes": [pair[2] for pair in pairs] if run["template"]["language_tag"] else None,
    }


def _place(fold: dict, home: str) -> Markup:
    if fold["repo_id"] is None:
        return Markup(f"folder `{_relative(fold['path'])}`")
    where = Markup("a branch of this repository") if fold["repo_id"] == home else _link(fold["repo_id"])
    return where + Markup(f" at `{_revision(fold['revision'])[:12]}`") if fold["revision"] else where


def _rendered(run: dict) -> tuple[str, str]:
    """Return the first pair of the snippets as the model reads it."""
    query, target, language = PAIRS[run["task"]][0]
    (text,), (pair,) = Template.from_dict(run["template"]).render([query], [target], [language])
    return text, pair


def _named(code: str) -> str:
    return f"{LANGUAGES[code]} ({to_iso(code)})" if code in LANGUAGES else code


def _languages(run: dict) -> list[str]:
    """Return ISO 639 codes of the languages trained on, without codes that stand for an unknown language."""
    codes = {to_iso(code) for code in run["data"]["languages"]} - {"unk", "und"}
    return sorted(code for code in codes if re.fullmatch("[a-z]{2,3}", code))


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _size(rows: int) -> str:
    limits = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M"}
    return next((name for limit, name in limits.items() if rows < limit), "10M<n<100M")


def _render(template: str, metadata, values: dict[str, Any]) -> str:
    if not FOLDER.is_dir():
        raise ValueError(f"{FOLDER.name}/ not found beside the package: publish from a clone of its repository")
    body = _environment(FOLDER).get_template(template).render(values)
    return f"---\n{metadata.to_yaml()}\n---\n\n" + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


@lru_cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"python": lambda value: Markup(repr(value)), "link": _link}
    return environment


def _repo(repo_id: str) -> str:
    validate_repo_id(repo_id)  # its error is a ValueError and says what is expected
    return repo_id


def _link(repo_id: str) -> Markup:
    return Markup(f"[{_repo(repo_id)}](https://huggingface.co/{repo_id})")


def _revision(revision: str) -> str:
    if not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII):
        raise ValueError(f"revision {one_line(revision)!r}: expected a tag, a branch or a commit")
    return revision


def _relative(path: str) -> str:
    if not re.fullmatch(r"[\w.][\w./-]*", path, re.ASCII) or ".." in path.split("/"):
        raise ValueError(f"path {one_line(path)!r}: expected one inside the repository, of letters, digits and ._-/")
    return path
