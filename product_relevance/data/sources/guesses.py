"""Guess which column of a file holds which field, by what columns are usually called."""

import difflib
import re
from collections.abc import Iterable

# Best names first; compared in lower case, with every other sign than letters and digits as "_".
USUAL = {
    "query": "origin_query query search_term search_query searchterm search_phrase search_keyword keyword keywords "
    "query_text search term q suchbegriff suchanfrage arama",
    "target": "category_path item_title target product_title title product_name item_name item product_title_text "
    "name product category_name category categories taxonomy_path taxonomy breadcrumb document doc text produkt "
    "titel urun",
    "label": "label grade relevance relevance_label relevance_score rating esci_label judgement judgment score gain "
    "relevant is_relevant clicked click target_label",
    "language": "language locale lang query_language query_locale language_code query_lang sprache dil",
    "id": "id row_id example_id pair_id uid uuid record_id sku item_id product_id",
    "task": "task",
}
CLOSE = 0.8
NEEDED = ("query", "target", "label")


def guess_columns(names: Iterable[str], wanted: Iterable[str] = tuple(USUAL)) -> dict[str, str]:
    """Return the column that each field is probably in, by its name alone; what no column is like is left out.

    Args:
        names: Of the columns.
        wanted: Fields to find, in the words of `--columns`.
    """
    free = {_plain(name): name for name in reversed(list(names))}
    found: dict[str, str] = {}
    for field in wanted:
        usual = USUAL.get(field, field).split()
        if (best := next((one for one in usual if one in free), None)) is None:
            near = ((one, difflib.get_close_matches(one, free, 1, CLOSE)) for one in usual if len(one) > 3)
            best = next((like[0] for _, like in near if like), None)
        if best is not None:
            found[field] = free.pop(best)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")
