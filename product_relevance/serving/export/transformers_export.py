"""Export a run as one plain transformers classifier that loads without this package."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from product_relevance.data.pairs import Pairs
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.locate import read_run
from product_relevance.ensemble.published import canaries
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_schema import is_repo_id
from product_relevance.models.batching import pad_rows
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export import onnx_export, scoring_example
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.one_logit import join_logits, name_for_engines
from product_relevance.text.templates import PairFacts
from product_relevance.utils.run_folder import write_json

MARK = "exported by product-relevance"
README = """---
library_name: {library}
pipeline_tag: text-classification{base}
---

# Relevance of {target} to a query

One {kind}, {made}, {mark} {version}.

- The first text is the query, the second the {target}, cleaned and written as in training:
  {template}.
- The tokenizer joins both as in training. With `truncation=True` the longer one is truncated, at {max_length} tokens a
  pair.
- Threshold: relevant from a probability of {threshold:.4f} (best F1; {macro:.4f} for macro-F1), chosen on
  {thresholds_from} of the folds.
"""
TRANSFORMERS = """
```python
from transformers import pipeline

score = pipeline("text-classification", ".", top_k=None)
score({{"text": {query}, "text_pair": {second}}}, truncation=True)  # relevant: {score:.4f}
```

```python
from sentence_transformers import CrossEncoder

CrossEncoder(".").predict([({query}, {second})])  # {score:.4f}
```

vLLM gives the same score through `/score`, `/rerank` and `/classify` (`vllm serve . --runner pooling`):

```json
{{"queries": {query}, "documents": [{second}]}}
```

`canaries.json` holds texts, token ids and scores of a few pairs, to check any other program.
"""
CANARIES = "canaries.json"


def export_classifier(name: str | Path, output: str | Path, options: ExportOptions | None = None) -> str:
    """Write one model as a plain transformers folder: merged in float32, then cast; a pooled head as a graph alone.

    Args:
        name: run folder, downloaded folder or Hub id, as in `RelevanceEnsemble.from_pretrained`.
        output: folder; it appears under its name only when it is whole.
        options: what is written; the mean weights in float32 if None.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: a pooled head without a graph, since no plain class has it; an output that is there already; or as
            in `from_pretrained`.
    """
    options, target = options or ExportOptions(), Path(output)
    if options.onnx is not None:
        onnx_export.require_onnx(options.onnx)
    _require_exportable_head(name, options)
    _require_free_place(target, options.overwrite)
    ensemble = _load_merged(name, options)
    found = canaries.measure_canaries(ensemble)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        written = _fill_folder(temporary, ensemble, found, options)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{target}: {written}"


def _require_exportable_head(name: str | Path, options: ExportOptions) -> None:
    run = read_run(name, options.revision)
    if len(run.labels) > 2:
        raise ValueError(
            f"{name}: it has {len(run.labels)} grades, and the snippets of an export show a probability of two "
            "labels; score with relevance predict, or train again by train_relevance.py --grades 2"
        )
    if run.is_kernel:
        raise ValueError(f"{name}: a kernel reads query and target by themselves, no graph of a pair: serve the run")
    if run.pooling != "auto" and options.onnx is None:
        raise ValueError(
            f"{name}: its head reads {run.pooling}-pooled tokens, which no plain transformers class does without "
            "code of its own; add --onnx float32 for a graph with the pooling inside, or serve the ensemble"
        )


def _require_free_place(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise ValueError(f"{target} is there already; add --overwrite to replace it")
    readme = target / "README.md"
    if not readme.is_file() or MARK not in readme.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{target} is no exported model, so --overwrite leaves it alone: choose another --output")


def _load_merged(name: str | Path, options: ExportOptions) -> RelevanceEnsemble:
    """Load the ensemble in float32, its folds merged unless one of them alone is exported."""
    merge = "probabilities" if options.fold else "weights"
    ensemble = RelevanceEnsemble.from_pretrained(
        name,
        revision=options.revision,
        device="cpu",
        dtype="float32",
        loading=LoadingArguments(merge=merge, max_disagreement=options.max_disagreement),
    ).of_task(None)
    if options.fold is not None and options.fold not in ensemble.folds:
        raise ValueError(f"--fold {options.fold}: expected one of {', '.join(ensemble.folds)}")
    return ensemble


def _fill_folder(folder: Path, ensemble: RelevanceEnsemble, found: CanaryScores, options: ExportOptions) -> str:
    """Write tokenizer, README, model and graph, of a pooled head the graph alone; return what was written."""
    made = f"fold {options.fold}" if options.fold else f"mean weights of {len(ensemble.run.folds)} folds"
    _merge_model(ensemble, options)
    ensemble.model.config.save_pretrained(folder)  # it decides which class loads the tokenizer
    save_tokenizer(ensemble.encoder.tokenizer, ensemble.encoder.max_length, folder)
    example, pooled = _example(ensemble, found, options.column), ensemble.run.pooling != "auto"
    readme, written = _readme(ensemble, made), made
    if not pooled:
        # The original format of Gemma 3 is the multimodal one: its names would not fit the text model's own class.
        ensemble.model.to(getattr(torch, options.dtype)).save_pretrained(folder, save_original_format=False)
        name_for_engines(folder)
        write_json(folder / CANARIES, {"pairs": _canary_rows(ensemble, found.folds[options.column])})
        readme += _transformers_section(ensemble, example)
        written += f" as {type(ensemble.model).__name__}, {options.dtype}"
    if options.onnx is not None:
        section, line = _save_graph(ensemble, example, folder, options)
        readme, written = readme + section, f"{written}{' as' if pooled else '; and'} {line}"
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return written


def _merge_model(ensemble: RelevanceEnsemble, options: ExportOptions) -> None:
    """Put the adapter into the base's own weights, in float32."""
    models = ensemble.fold_models
    if options.fold is not None:
        models.select(options.fold)
    if not models.whole:
        models.model = models.model.merge_and_unload(safe_merge=True, adapter_names=[options.column])
    if ensemble.encoder.template.prompt is not None:
        models.model = models.model.as_classifier()
    join_logits(models.model)


def _save_graph(
    ensemble: RelevanceEnsemble, example: dict[str, Any], folder: Path, options: ExportOptions
) -> tuple[str, str]:
    """Write the merged model's graph; return a section of the README and a line that say what was written."""
    queries, targets, languages = map(list, zip(*canaries.canary_pairs(ensemble.run.task), strict=True))
    rows = pad_rows(ensemble.encoder.encode(Pairs(queries, targets, languages, None)), ensemble.encoder.pad_id)
    kind = str(options.onnx)
    file = f"onnx/{onnx_export.NAMES[kind]}"
    moved = onnx_export.write_graph(ensemble.model, rows, folder / "onnx", kind, options.max_disagreement)
    scoring_example.write_scoring_file(folder, ensemble, file, example)
    section = scoring_example.write_section(file, moved, example)
    return section, f"{file}, whose probabilities of the canaries differ by {moved:.1g} at most"


def save_tokenizer(tokenizer, max_length: int, folder: Path) -> None:
    """Save a tokenizer whose plain call on a pair gives the ids that `encode_pairs` gives.

    Args:
        tokenizer: of the base.
        max_length: tokens per pair; becomes the saved tokenizer's own, for `truncation=True`.
        folder: holds the model's config, by which transformers chooses the tokenizer's class.

    Raises:
        ValueError: the saved tokenizer gives other ids.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    queries, seconds, _ = zip(*canaries.canary_pairs("QC"), *canaries.canary_pairs("QI"), strict=True)
    texts, targets = [*queries, " ".join(queries * 9)], [*seconds, " ".join(seconds * 9)]  # one pair is truncated
    expected = encode_pairs(tokenizer, texts, targets, max_length)  # from here on its pairs have a boundary
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    # A class of the architecture's own would rebuild the template; this one keeps what the backend holds. Type ids
    # are left out, since the package never passes them: BERT then takes zeros.
    plain = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side="right",
        split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
        **tokenizer.special_tokens_map,
    )
    plain.save_pretrained(folder)
    found = AutoTokenizer.from_pretrained(folder)(texts, targets, truncation=True)["input_ids"]
    if found != expected:
        raise ValueError("the saved tokenizer does not give the token ids of training; this base cannot be exported")


def _example(ensemble: RelevanceEnsemble, found: CanaryScores, column: str) -> dict[str, Any]:
    """Return the first canary raw and written as in training, and its score."""
    query, target, language = found.pairs[0]
    (text,), (second,) = ensemble.encoder.template.render([query], [target], PairFacts([language]), ensemble.taxonomy)
    texts = {"query": query, "target": target, "query_text": text, "target_text": second}
    return texts | {"score": found.folds[column][0]}


def _canary_rows(ensemble: RelevanceEnsemble, scores: list[float]) -> list[dict[str, Any]]:
    """Return the canaries as texts, as the tokens they become, and their scores."""
    queries, targets, languages = map(list, zip(*canaries.canary_pairs(ensemble.run.task), strict=True))
    template, ids = ensemble.encoder.template, ensemble.encoder.encode(Pairs(queries, targets, languages, None))
    texts = template.render(queries, targets, PairFacts(languages), ensemble.taxonomy)
    rows = zip(queries, targets, languages, *texts, ids, scores, strict=True)
    names = ("query", "target", "language", "query_text", "target_text", "token_ids", "score")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _readme(ensemble: RelevanceEnsemble, made: str) -> str:
    run, base = ensemble.run, ensemble.run.base["name"]
    pooled = run.pooling != "auto"
    return README.format(
        library="onnx" if pooled else "transformers",
        base=f"\nbase_model: {base}" if is_repo_id(base) and not Path(base).exists() else "",
        target="category path" if run.task == "QC" else "item title",
        kind=f"ONNX graph with the {run.pooling} pooling of its head inside" if pooled else "plain classifier",
        made=made,
        mark=MARK,
        version=run.versions["product_relevance"],
        threshold=run.thresholds["f1"],
        macro=run.thresholds["macro_f1"],
        thresholds_from=run.thresholds_from,
        template=", ".join(f"{key} {value}" for key, value in run.template.items()),
        max_length=run.max_length,
    )


def _transformers_section(ensemble: RelevanceEnsemble, example: dict[str, Any]) -> str:
    return TRANSFORMERS.format(
        query=json.dumps(example["query_text"], ensure_ascii=False),
        second=json.dumps(example["target_text"], ensure_ascii=False),
        score=example["score"],
    )
