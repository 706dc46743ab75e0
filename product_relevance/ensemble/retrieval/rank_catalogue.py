"""The candidates of many queries in the order of the ensemble's scores, as a table or a TREC run."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from product_relevance.data.catalogue import Catalogue, Queries
from product_relevance.ensemble import outputs
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.predict_file import claim_parts, run_key
from product_relevance.ensemble.retrieval.first_stage import Candidates
from product_relevance.ensemble.stack import RelevanceStack
from product_relevance.evaluation import trec
from product_relevance.utils import console
from product_relevance.utils.files import atomic_write, write_table
from product_relevance.utils.tasks import BOTH

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK_PAIRS = 20_000  # pairs between two safe points
TREC = (".run", ".trec")
FORMATS = (*outputs.SEPARATORS, ".parquet", *TREC)


def model_of_task(model: RelevanceEnsemble | RelevanceStack, task: str | None) -> RelevanceEnsemble | RelevanceStack:
    """Return the model for one task.

    Raises:
        ValueError: A task that it was not trained on, or None where it was trained on two.
    """
    known = model.run.task
    if isinstance(model, RelevanceEnsemble) and task != known:
        if task is None and known == BOTH:
            raise ValueError("--task: found none, but this run was trained on QC and QI; add --task QC or --task QI")
        return model.of_task(task)
    if task not in (None, known):
        raise ValueError(f"--task {task}: this stack was made of {known} runs only; leave it out")
    return model


def require_ranking_format(output: str, queries: Queries, catalogue: Catalogue) -> None:
    """Raise ValueError for an output that could not be written once all is scored.

    Raises:
        ValueError: Another ending than `FORMATS`, no such folder, or ids that a TREC run cannot hold.
    """
    path = Path(output)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"--output {output}: found {path.suffix or 'no ending'}, expected one of {', '.join(FORMATS)}"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output {output}: found no folder {path.parent}, expected one that is there; make it")
    if path.suffix.lower() in TREC:
        trec.require_names("query id", queries.ids)
        trec.require_names("id of the catalogue", catalogue.ids)


def rank_candidates(
    model: RelevanceEnsemble | RelevanceStack,
    queries: Queries,
    catalogue: Catalogue,
    candidates: Candidates,
    output: str | None = None,
) -> pd.DataFrame:
    """Order the candidates of each query by the scores of a model.

    Args:
        model: Of one task.
        queries: What is asked.
        catalogue: Where the candidates are from.
        candidates: Of `first_stage.find_candidates`.
        output: The file that the ranking is meant for: scores are kept beside it until `write_ranking` has written
            it, so that an interrupted command goes on.

    Returns:
        A row per candidate, best first for each query, equal scores in the order of the catalogue: query_id, query,
        rank (from 1), id, target, score, first_stage_score.
    """
    parts = None if output is None else _parts_of(output)
    scores = _score_pairs(model, queries, catalogue, candidates, parts)
    counts = [len(places) for places in candidates.places]
    rows, places = np.repeat(np.arange(len(counts)), counts), np.concatenate(candidates.places)
    order = np.lexsort((places, -scores, rows))
    columns = {"query_id": _take(queries.ids, rows), "query": _take(queries.texts, rows)}
    columns["rank"] = np.concatenate([np.arange(1, count + 1) for count in counts])
    columns |= {"id": _take(catalogue.ids, places[order]), "target": _take(catalogue.targets, places[order])}
    first = np.concatenate(candidates.scores)
    return pd.DataFrame(columns | {"score": scores[order], "first_stage_score": first[order]})


def _take(values: list[str], places: np.ndarray) -> np.ndarray:
    return np.array(values, dtype=object)[places]


def _parts_of(output: str) -> Path:
    return Path(f"{output}.parts")


def _score_pairs(
    model: RelevanceEnsemble | RelevanceStack,
    queries: Queries,
    catalogue: Catalogue,
    candidates: Candidates,
    parts: Path | None,
) -> np.ndarray:
    if parts is not None:
        asked = outputs.json_sha256(queries.texts, queries.languages, queries.translations)
        key = {"run": run_key(model), "dtype": model.dtype, "queries": asked, "chunk_pairs": CHUNK_PAIRS}
        claim_parts(parts, key | {"candidates": _digest(catalogue, candidates)})
    columns = []
    bar: tqdm[int]
    with console.progress_bar(total=sum(map(len, candidates.places)), desc="rank", unit="pair") as bar:
        for rows in _chunks_of(candidates, isinstance(model, RelevanceStack)):
            file = None if parts is None else parts / f"{rows.start:09d}.npy"
            if file is not None and file.exists():
                scores = np.load(file)
            else:
                scores = _score_chunk(model, queries, catalogue, candidates, rows)
                if file is not None:
                    with atomic_write(file, "wb") as target:
                        np.save(target, scores)
            columns.append(scores)
            bar.update(len(scores))
    return np.concatenate(columns)


def _digest(catalogue: Catalogue, candidates: Candidates) -> str:
    digest = hashlib.sha256()
    for places in candidates.places:
        texts = "\0".join(catalogue.targets[i] for i in places)
        digest.update(f"{len(places)} {texts}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _chunks_of(candidates: Candidates, whole: bool) -> Iterator[range]:
    """Yield the queries that are scored at a time; a stack, which loads each base anew, gets all."""
    start = pairs = 0
    for row, places in enumerate(candidates.places):
        pairs += len(places)
        if pairs >= CHUNK_PAIRS and not whole:
            yield range(start, row + 1)
            start, pairs = row + 1, 0
    if start < len(candidates.places):
        yield range(start, len(candidates.places))


def _score_chunk(
    model: RelevanceEnsemble | RelevanceStack,
    queries: Queries,
    catalogue: Catalogue,
    candidates: Candidates,
    rows: range,
) -> np.ndarray:
    numbers = np.repeat(np.array(rows), [len(candidates.places[row]) for row in rows]).tolist()
    places = np.concatenate([candidates.places[row] for row in rows]).tolist()
    if not places:
        return np.empty(0)
    pairs = [(queries.texts[row], catalogue.targets[i]) for row, i in zip(numbers, places, strict=True)]
    english = queries.translations
    translations = None if english is None else [english[row] for row in numbers]
    return model.predict(pairs, [queries.languages[row] for row in numbers], translations)


def write_ranking(frame: pd.DataFrame, output: str, top_k: int) -> int:
    """Write the best of each query, whole or not at all, in the format that the name asks for.

    Args:
        frame: Of `rank_candidates`.
        output: .csv, .tsv or .parquet for a table; .run or .trec for a TREC run.
        top_k: How many per query.

    Returns:
        How many rows were written.
    """
    best, suffix = frame[frame["rank"] <= top_k], Path(output).suffix.lower()
    if suffix in TREC:
        trec.write_run(best.rename(columns={"id": "doc_id"}), output)
    elif suffix == ".parquet":
        write_table(best, output)
    else:
        with atomic_write(output) as file:
            best.to_csv(file, index=False, sep=outputs.SEPARATORS[suffix], lineterminator="\n")
    shutil.rmtree(_parts_of(output), ignore_errors=True)
    return len(best)
