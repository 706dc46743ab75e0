"""Serve the page of a label review to this machine, for a review table or for the doubtful rows of a run."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from product_relevance.data.sources.tables import Source
from product_relevance.preparation.labels import corrections, label_errors
from product_relevance.preparation.labels.review_page import load_table
from product_relevance.utils.extras import how_to_install

SCRIPT = """import sys

from product_relevance.preparation.labels.review_page import draw_page

draw_page(*sys.argv[1:])
"""


@dataclass(frozen=True)
class ReviewOptions:
    """Who reviews, and where.

    Attributes:
        made: Decisions file, made at the first decision.
        by: Who reviews; written with each decision.
        port: None: the first free one from 8501 on.
    """

    made: str | Path
    by: str
    port: int | None = None


def start_page(table: str | Path, options: ReviewOptions) -> None:
    """Serve the page to this machine only, until it is stopped.

    Args:
        table: Review table (Parquet).
        options: Who reviews, and where.

    Raises:
        ValueError: A table or a decisions file that cannot be used, or Streamlit is not installed.
    """
    rows, standing = load_table(table), corrections.read_decisions(options.made)
    print(f"{table}: {len(rows)} rows, {int(rows['id'].isin(standing).sum())} of them decided in {options.made}")
    try:
        from streamlit.web import cli
    except ImportError:
        raise ValueError(f"review needs Streamlit: {how_to_install('prepare')}") from None
    # The names under which the page may be called are fixed: else a web site could reach it by rebinding its own.
    words = ["--server.address=127.0.0.1", "--server.allowedHosts=127.0.0.1", "--server.allowedHosts=localhost"]
    words += ["--browser.gatherUsageStats=false", "--server.showEmailPrompt=false", "--client.toolbarMode=minimal"]
    words += ["--server.fileWatcherType=none"] + ([f"--server.port={options.port}"] if options.port else [])
    with tempfile.TemporaryDirectory(prefix="relevance-review-") as folder:
        # Streamlit puts the script's folder first on the import path: one without other modules in it.
        script = Path(folder) / "label_review.py"
        script.write_text(SCRIPT, encoding="utf-8")
        arguments = [str(table), str(options.made), options.by]
        cli.main(["run", str(script), *words, "--", *arguments], standalone_mode=False)


def review_labels(
    table_or_run: str,
    options: ReviewOptions,
    records: str | Source | None = None,
    on_bad_rows: str = "error",
) -> None:
    """Open the page for a review table, or for the rows that self-validation lists for a run.

    Args:
        table_or_run: Review table (Parquet) or run folder.
        options: Who reviews, and where.
        records: The records that the run was trained on; only for a run.
        on_bad_rows: What happens to records that cannot be used, see `read_records`.

    Raises:
        ValueError: A run without records, or as from `label_errors` and `start_page`.
    """
    if not Path(table_or_run).is_dir():
        return start_page(table_or_run, options)
    if not records:
        raise ValueError(f"{table_or_run}: a run holds no texts; give the records it was trained on with --records")
    from product_relevance.data.records import read_records

    frame = read_records(records, role="train", on_bad_rows=on_bad_rows)
    table = label_errors.self_validation(label_errors.join_scores(frame, label_errors.read_scores(table_or_run)))
    with tempfile.TemporaryDirectory(prefix="relevance-review-") as folder:
        table.to_parquet(Path(folder) / "review.parquet", index=False)
        start_page(Path(folder) / "review.parquet", options)
