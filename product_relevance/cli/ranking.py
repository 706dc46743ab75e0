"""`relevance rank`: the targets of a file in the order of their relevance to one query."""

import argparse
import json
from pathlib import Path

from product_relevance.cli.flags import Commands, add_command, add_device, add_model
from product_relevance.evaluation.reports.markdown_tables import metrics_table


def add_commands(commands: Commands) -> None:
    """Add `rank`."""
    parser = add_command(commands, "rank", rank_targets, "order the targets of a file by their relevance to one query")
    add_model(parser)
    parser.add_argument("--query", required=True, help="text of the query")
    parser.add_argument("--targets", required=True, metavar="FILE", help="text file in UTF-8, one target per line")
    parser.add_argument("--top_k", type=int, help="how many targets are shown, best first (default: all)")
    parser.add_argument("--language", help="code of the query's language, for runs that read one")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the order as JSON only")
    add_device(parser)


def rank_targets(arguments: argparse.Namespace) -> None:
    """Order targets by relevance to a query."""
    lines = _read_targets(arguments.targets)
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    ensemble = RelevanceEnsemble.from_pretrained(
        arguments.model, revision=arguments.revision, device=arguments.device, dtype=arguments.dtype
    )
    found = ensemble.rank(arguments.query, [*lines.values()], arguments.top_k, arguments.language)
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
