"""Find the candidates of each query in a catalogue: by sentence vectors, or in the run file of another engine."""

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.data.catalogue import Catalogue, Queries
from product_relevance.ensemble.retrieval.vector_search import (
    Nearest,
    Search,
    open_index,
    require_usearch,
    search_exactly,
)
from product_relevance.evaluation.trec import read_run
from product_relevance.models.loading.packaged_bases import is_embedded
from product_relevance.models.sentence_encoder import E5, SIDES, load_encoder
from product_relevance.text.cleaning import clean_target, clean_text
from product_relevance.utils.files import cache_folder

logger = logging.getLogger(__name__)

INDEXES = ("exact", "usearch")


@dataclass(frozen=True)
class Candidates:
    """What the ensemble shall order, query by query.

    Attributes:
        places: In the catalogue, ascending, an array per query.
        scores: Of the first stage, an array per query.
    """

    places: list[np.ndarray]
    scores: list[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """How candidates are found.

    Attributes:
        encoder: `embedded:e5-small`, a folder of sentence-transformers, or `org/name@revision` on the Hub.
        prefixes: What to write before queries and before targets; None takes those of the encoder.
        index: `exact` or `usearch`.
        count: Candidates per query.
        device: Of the encoder; a GPU when there is one if None.
        run_file: TREC run of another engine, which takes the encoder's place.

    Raises:
        ValueError: An unknown index, usearch that is not installed, no candidate, or a Hub id without a revision.
    """

    encoder: str = E5
    prefixes: tuple[str, str] | None = None
    index: str = "exact"
    count: int = 200
    device: str | None = None
    run_file: str | None = None

    def __post_init__(self) -> None:
        if self.index not in INDEXES:
            raise ValueError(f"--index {self.index}: expected one of {', '.join(INDEXES)}")
        if self.index == "usearch" and self.run_file is None:
            require_usearch()
        if self.count < 1:
            raise ValueError(f"--candidates {self.count}: expected a whole number from 1")
        split_revision(self.encoder)


def split_revision(encoder: str) -> tuple[str, str | None]:
    """Split the name of an encoder from its revision.

    Raises:
        ValueError: A Hub id without a revision: its vectors could be others tomorrow.
    """
    if is_embedded(encoder) or Path(encoder).is_dir():
        return encoder, None
    name, _, revision = encoder.partition("@")
    if not revision:
        expected = f"expected {E5}, a folder, or a Hub id with its commit or tag as org/name@revision"
        raise ValueError(f"--first_stage {encoder}: found no such folder and no revision, {expected}")
    return name, revision


def find_candidates(queries: Queries, catalogue: Catalogue, task: str, first_stage: FirstStage) -> Candidates:
    """Find the candidates of each query.

    Args:
        queries: What is asked.
        catalogue: What is searched.
        task: QC or QI; texts are cleaned for it, as in training.
        first_stage: How they are found. Vectors are kept below HF_HOME by text and encoder: a text that was encoded
            once is not encoded again, and a changed one is.

    Raises:
        ValueError: The encoder cannot be loaded, or the run file fits neither queries nor catalogue.
    """
    if first_stage.run_file is not None:
        return read_candidates(first_stage.run_file, queries, catalogue, first_stage.count)
    started = time.perf_counter()
    vectors, asked = _encode_texts(queries, catalogue, task, first_stage)
    encoded = time.perf_counter()
    search: Search = partial(search_exactly, vectors)
    if first_stage.index == "usearch":
        search = open_index(vectors, cache_folder() / "vectors" / "indexes")
    found = search(asked, first_stage.count)
    logger.info(
        "first stage: vectors of %s targets in %.1f s, %s queries searched in %.1f s",
        *(f"{len(vectors):,}", encoded - started, f"{len(asked):,}", time.perf_counter() - encoded),
    )
    return _by_place(found)


def _encode_texts(
    queries: Queries, catalogue: Catalogue, task: str, first_stage: FirstStage
) -> tuple[np.ndarray, np.ndarray]:
    name, revision = split_revision(first_stage.encoder)
    prefixes = None if first_stage.prefixes is None else dict(zip(SIDES, first_stage.prefixes, strict=True))
    encode = load_encoder(name, revision, prefixes=prefixes, device=first_stage.device)
    targets = [clean_target(target, task) for target in catalogue.targets]
    return encode(targets, "passage"), encode([clean_text(text) for text in queries.texts], "query")


def _by_place(found: Nearest) -> Candidates:
    """Sort candidates by their place, so that equal scores of the ensemble keep the order of the catalogue."""
    orders = [np.argsort(places, kind="stable")[np.count_nonzero(places < 0) :] for places in found.places]
    return Candidates(
        [places[order] for places, order in zip(found.places, orders, strict=True)],
        [scores[order] for scores, order in zip(found.scores, orders, strict=True)],
    )


def read_candidates(path: str, queries: Queries, catalogue: Catalogue, count: int) -> Candidates:
    """Read the candidates that another engine found: the best of each query in a TREC run.

    Args:
        path: Of the run file; its query ids and document ids are those of the two files.
        queries: What is asked.
        catalogue: What was searched.
        count: Candidates per query.

    Raises:
        ValueError: A document that the catalogue lacks, or no query of the list.
    """
    run, place = read_run(path), {name: number for number, name in enumerate(catalogue.ids)}
    run = run[run["query_id"].isin(set(queries.ids))]
    if run.empty:
        raise ValueError(f"--run_file {path}: found no query of {queries.name}, expected its query ids")
    if lost := [name for name in run["doc_id"] if name not in place]:
        raise ValueError(f"--run_file {path}: found the document {lost[0]!r}, expected ids of {catalogue.name}")
    best = run.sort_values("score", ascending=False, kind="stable").groupby("query_id", sort=False).head(count)
    parts = {str(query): part for query, part in best.groupby("query_id")}
    if missing := [query for query in queries.ids if query not in parts]:
        logger.warning("%s: %s queries have no candidate, as %s", path, f"{len(missing):,}", missing[0])
    found = [_places_of(parts[query], place) if query in parts else _NOTHING for query in queries.ids]
    return Candidates([places for places, _ in found], [scores for _, scores in found])


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.float32))


def _places_of(part: pd.DataFrame, place: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    places = np.array([place[name] for name in part["doc_id"]], np.int64)
    order = np.argsort(places)
    return places[order], part["score"].to_numpy(np.float32)[order]
