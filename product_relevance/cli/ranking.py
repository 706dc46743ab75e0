"""`relevance rank`: the targets of a file, or of a catalogue, in the order of their relevance to queries."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product_relevance.cli.flags import Commands, add_bad_rows, add_command, add_device, add_model
from product_relevance.data.reading_arguments import add_source_flags, source_of
from product_relevance.data.sources.readers import require_source
from product_relevance.data.sources.tables import Source
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.utils.options import Parser

if TYPE_CHECKING:
    from product_relevance.data.catalogue import Catalogue, Queries

TOP_K = 20  # of a catalogue, where --top_k is not given
MEASURES = ("nDCG@10", "RR@10", "AP", "P@5")


def add_commands(commands: Commands) -> None:
    """Add `rank`."""
    parser = add_command(commands, "rank", rank_targets, "order targets by their relevance to one query, or to many")
    add_model(parser)
    parser.add_argument("--task", choices=["QC", "QI"], help="one of the tasks of a run that was trained on both")
    parser.add_argument("--query", help="text of one query, with --targets")
    parser.add_argument("--targets", metavar="FILE", help="text file in UTF-8, one target per line")
    shown = f"how many targets are shown or written per query, best first (default: all; of a catalogue {TOP_K})"
    parser.add_argument("--top_k", type=int, help=shown)
    parser.add_argument("--language", help="code of the language of --query, for runs that read one")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the order, or the figures, as JSON")
    _add_catalogue(parser)
    add_device(parser)


def _add_catalogue(parser: Parser) -> None:
    parser.add_argument("--queries", metavar="FILE", help="queries: any file of records, or a .txt of one per line")
    parser.add_argument("--catalogue", metavar="FILE", help="targets with ids, in the same forms, with --queries")
    parser.add_argument("--output", metavar="FILE", help="ranking: .csv .tsv .parquet, or .run and .trec for TREC")
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    found = "targets per query that the first stage finds and the model orders (default 200)"
    parser.add_argument("--candidates", type=int, default=200, help=found)
    encoder = "embedded:e5-small (default), a folder of sentence-transformers, or org/name@revision on the Hub"
    parser.add_argument("--first_stage", metavar="ENCODER", default="embedded:e5-small", help=encoder)
    texts = 'what the encoder wants before a query and before a target: "query: " "passage: "'
    parser.add_argument("--prefixes", nargs=2, metavar=("QUERY", "TARGET"), help=texts)
    exact = "exact (default), or an index of usearch, which is faster on many queries and misses some targets"
    parser.add_argument("--index", choices=["exact", "usearch"], default="exact", help=exact)
    parser.add_argument("--run_file", metavar="FILE", help="TREC run of another engine in place of the first stage")
    judged = "judgements in TREC form, or labelled records: recall of the first stage and measures are shown"
    parser.add_argument("--qrels", metavar="FILE", help=judged)
    names = f"of the order of the candidates, through ir-measures (default {' '.join(MEASURES)})"
    parser.add_argument("--measures", nargs="+", metavar="NAME", default=[*MEASURES], help=names)
    add_bad_rows(parser, "error (default): stop; skip: leave bad rows of catalogue and queries out")
    parser.without = [*parser.without, "on_duplicates"]  # a catalogue has ids, not labels that contradict
    add_source_flags(parser, "the catalogue")


def rank_targets(arguments: argparse.Namespace) -> None:
    """Order targets by relevance to a query, or the targets of a catalogue to many."""
    pair, lists = (arguments.query, arguments.targets), (arguments.queries, arguments.catalogue, arguments.output)
    if None not in pair and not any(lists):
        return _rank_lines(arguments)
    if None not in lists and not any(pair):
        return _rank_catalogue(arguments)
    raise ValueError("expected --query with --targets, or --queries with --catalogue and --output")


def _load_model(arguments: argparse.Namespace) -> Any:
    from product_relevance.ensemble.retrieval.rank_catalogue import model_of_task
    from product_relevance.ensemble.scoring_arguments import ScoringArguments

    names = ("model", "revision", "device", "dtype")
    return model_of_task(ScoringArguments(**{name: getattr(arguments, name) for name in names}).load(), arguments.task)


def _rank_lines(arguments: argparse.Namespace) -> None:
    lines = _read_targets(arguments.targets)
    found = _load_model(arguments).rank(arguments.query, [*lines.values()], arguments.top_k, arguments.language)
    numbers = [*lines]
    rows = [{"line": numbers[each["index"]], "score": each["score"], "target": each["target"]} for each in found]
    print(json.dumps(rows, ensure_ascii=False) if arguments.as_json else metrics_table(rows, [*rows[0]]))


def _read_targets(path: str) -> dict[int, str]:
    """Return line number to target; blank lines are passed over."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--targets {path}: cannot be read as text in UTF-8 ({error})") from None
    lines = {number: line.strip() for number, line in enumerate(text.split("\n"), start=1) if line.strip()}
    if not lines:
        raise ValueError(f"--targets {path}: found no line with text, expected one target per line")
    return lines


def _rank_catalogue(arguments: argparse.Namespace) -> None:
    top_k = _require_options(arguments)
    from product_relevance.ensemble.files.predict_file import read_as_trained
    from product_relevance.ensemble.retrieval import first_stage, judgements, rank_catalogue
    from product_relevance.evaluation.ranking import parse_measures

    first = first_stage.FirstStage(
        encoder=arguments.first_stage,
        prefixes=None if arguments.prefixes is None else tuple(arguments.prefixes),
        index=arguments.index,
        count=arguments.candidates,
        device=arguments.device,
        run_file=arguments.run_file,
    )
    model = _load_model(arguments)
    source = read_as_trained(source_of(arguments, arguments.catalogue), model.run)
    lists = _read_lists(arguments, source, model.run.task)
    rank_catalogue.require_ranking_format(arguments.output, *lists)
    judged = None
    if arguments.qrels:
        judged = judgements.read_judgements(_beside(source, arguments.qrels), *lists, model.run)
        measures = parse_measures([f"R@{arguments.candidates}", *arguments.measures], judged.relevant_from)
    candidates = first_stage.find_candidates(*lists, model.run.task, first)
    frame = rank_catalogue.rank_candidates(model, *lists, candidates, arguments.output)
    rows = rank_catalogue.write_ranking(frame, arguments.output, top_k)
    figures: dict[str, Any] = {} if judged is None else judgements.measure_stages(judged, frame, measures)
    if arguments.as_json:
        return print(json.dumps(figures | {"rows": rows, "queries": len(lists[0].ids)}))
    print(f"{arguments.output}: {rows:,} rows, at most {top_k} for each of {len(lists[0].ids):,} queries")
    if judged is not None:
        print(f"\n{judgements.stages_table(figures)}")


def _require_options(arguments: argparse.Namespace) -> int:
    """Return how many targets are written per query, after checks that need no model."""
    top_k: int = TOP_K if arguments.top_k is None else arguments.top_k
    if arguments.top_k is None:
        top_k = min(top_k, arguments.candidates)
    if not 1 <= top_k <= arguments.candidates:
        way_out = "the model orders no more than those; give more --candidates"
        raise ValueError(f"--top_k {top_k}: expected 1 to --candidates {arguments.candidates}: {way_out}")
    for name in (arguments.queries, arguments.catalogue, *([arguments.qrels] if arguments.qrels else [])):
        if not Path(name).exists():
            require_source(name)
    if Path(arguments.output).exists() and not arguments.overwrite:
        raise ValueError(f"{arguments.output} is there already; add --overwrite to replace it")
    return top_k


def _read_lists(arguments: argparse.Namespace, source: Source, task: str) -> "tuple[Queries, Catalogue]":
    from product_relevance.data.catalogue import read_catalogue, read_queries

    queries = read_queries(_beside(source, arguments.queries), task, arguments.on_bad_rows)
    return queries, read_catalogue(source, task, arguments.on_bad_rows)


def _beside(source: Source, name: str) -> Source:
    """Return another file that is read with the same columns; split and revision are those of the catalogue."""
    return Source(name, reading=source.reading)
