"""Show how well the folds of a run order the validation rows of each query."""

from collections.abc import Mapping
from typing import Any

from product_relevance.evaluation.ranking import ranking_table


def report_ranking(run: Mapping[str, Any], whole: Mapping[str, Any] | None) -> list[str]:
    """Return the report's part on rankings; nothing of a run without `--ranking_measures`.

    Args:
        run: The content of run.json.
        whole: Figures of all out-of-fold rows, with `ranking`, as of `RankingReport.to_json`.
    """
    if not whole or "ranking" not in whole:
        return []
    folds = {str(fold["name"]): (fold.get("metrics") or {}).get("ranking") for fold in run.get("folds") or []}
    reports = {name: found for name, found in folds.items() if found} | {"all out of fold": whole["ranking"]}
    line = (
        "The validation rows of each query in the order of their scores. Only these rows compete, so that the figures "
        "are higher than in a whole catalogue."
    )
    return ["## Ranking", line, ranking_table(reports)]
