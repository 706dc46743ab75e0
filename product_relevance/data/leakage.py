"""Check that training and validation rows share no query, and show how labels and languages are spread."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_relevance.data.arguments import GROUPINGS
from product_relevance.data.folds import prefix_groups, query_keys
from product_relevance.text.path_format import flat_paths


class LeakageError(ValueError):
    """Training and validation rows share what the folds promised to keep apart."""


@dataclass(frozen=True)
class LeakReport:
    """What two sides of a split share.

    Attributes:
        group_by: What the split promises to keep apart.
        train_rows, valid_rows: Sizes of the sides.
        shared_rows: Rows that are on both sides.
        shared_queries: Distinct normalised queries on both sides.
        shared_translations: Distinct normalised translations on both sides.
        shared_crosswise: Distinct texts that are a query on one side and a translation on the other.
        shared_prefixes: Distinct path prefixes on both sides; None where they were not asked for.
        positive: Share of label 1 on (training, validation); nan without labels.
        languages: Share of each language on (training, validation).
        examples: A few of the shared queries and translations.
        flat: Why prefixes separate nothing although they were asked for; "" where they do.
    """

    group_by: str
    train_rows: int
    valid_rows: int
    shared_rows: int
    shared_queries: int
    shared_translations: int
    shared_crosswise: int
    shared_prefixes: int | None
    positive: tuple[float, float]
    languages: dict[str, tuple[float, float]]
    examples: tuple[str, ...] = ()
    flat: str = ""

    @property
    def leaks(self) -> dict[str, int]:
        """The counts that break the promise; folds by "prefix" alone promise nothing about queries."""
        found = {"rows": self.shared_rows}
        if "query" in self.group_by:
            found |= {"queries": self.shared_queries, "translations": self.shared_translations}
            found |= {"query = translation": self.shared_crosswise}
        if "prefix" in self.group_by:
            found |= {"prefixes": self.shared_prefixes or 0}
        return {name: count for name, count in found.items() if count}

    @property
    def ok(self) -> bool:
        """Whether both sides keep apart what the split promises."""
        return not self.leaks

    def to_text(self) -> str:
        """Return the report as a table of fixed width."""
        lines = [f"{'':<24}{'train':>10}{'valid':>10}{'shared':>10}"]
        lines.append(f"{'rows':<24}{self.train_rows:>10,}{self.valid_rows:>10,}{self.shared_rows:>10,}")
        shared: dict[str, int | None] = {"queries": self.shared_queries, "translations": self.shared_translations}
        shared |= {"query = translation": self.shared_crosswise, "prefixes": self.shared_prefixes}
        lines += [f"{name:<44}{n:>10,}" for name, n in shared.items() if n is not None]
        shares = {"positive": self.positive} | {f"language {code}": pair for code, pair in self.languages.items()}
        lines += [f"{name:<24}{train:>10.1%}{valid:>10.1%}" for name, (train, valid) in shares.items()]
        fine = f"prefixes are whole paths: {self.flat}" if self.flat else "no leak"
        return "\n".join([*lines, fine if self.ok else f"LEAK: {_told(self)}"])


def check_leakage(
    frame: pd.DataFrame,
    train_mask: np.ndarray,
    valid_mask: np.ndarray,
    group_by: str = "query",
    prefix_levels: int = 2,
) -> LeakReport:
    """Compare the two sides of a split on normalised queries and translations, also crosswise.

    Args:
        frame: Records, with translated_query if any.
        train_mask: Boolean (rows,).
        valid_mask: Boolean (rows,).
        group_by: What the split promises to keep apart; prefixes are compared only where it names them.
        prefix_levels: Levels of a prefix.

    Returns:
        The report.

    Raises:
        ValueError: Unknown grouping, or an empty side.
    """
    if group_by not in GROUPINGS:
        raise ValueError(f"group_by: found {group_by!r}, expected one of {', '.join(GROUPINGS)}")
    train, valid = np.asarray(train_mask, dtype=bool), np.asarray(valid_mask, dtype=bool)
    if not train.any() or not valid.any():
        raise ValueError(
            f"split: found {train.sum()} training and {valid.sum()} validation rows, expected some of each"
        )
    queries, translations = query_keys(frame)
    same, english = _shared(queries, queries, train, valid), _shared(translations, translations, train, valid)
    across = _shared(queries, translations, train, valid) | _shared(translations, queries, train, valid)
    prefixes = prefix_groups(frame, prefix_levels) if "prefix" in group_by else None
    return LeakReport(
        group_by=group_by,
        train_rows=int(train.sum()),
        valid_rows=int(valid.sum()),
        shared_rows=int((train & valid).sum()),
        shared_queries=len(same),
        shared_translations=len(english),
        shared_crosswise=len(across),
        shared_prefixes=None if prefixes is None else len(_shared(prefixes, prefixes, train, valid)),
        positive=(_positive(frame[train]), _positive(frame[valid])),
        languages=_language_shares(frame, train, valid),
        examples=tuple(sorted(same | english | across)[:5]),
        flat=flat_paths(frame) if "prefix" in group_by else "",
    )


def require_no_leak(
    frame: pd.DataFrame,
    train_mask: np.ndarray,
    valid_mask: np.ndarray,
    group_by: str = "query",
    prefix_levels: int = 2,
) -> LeakReport:
    """Check as `check_leakage` does, and stop at a leak.

    Raises:
        LeakageError: With the table and a few of the shared texts.
    """
    report = check_leakage(frame, train_mask, valid_mask, group_by, prefix_levels)
    if not report.ok:
        examples = f", for example {', '.join(map(repr, report.examples))}" if report.examples else ""
        raise LeakageError(
            f"training and validation rows share {_told(report)}{examples}; make the folds with assign_folds and "
            f"take the training side from training_rows\n{report.to_text()}"
        )
    return report


def _told(report: LeakReport) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in report.leaks.items())


def _shared(left: np.ndarray, right: np.ndarray, train: np.ndarray, valid: np.ndarray) -> set[str]:
    return (set(left[train]) & set(right[valid])) - {""}


def _positive(frame: pd.DataFrame) -> float:
    return float((frame["label"] == 1).mean()) if "label" in frame and frame["label"].notna().any() else float("nan")


def _language_shares(frame: pd.DataFrame, train: np.ndarray, valid: np.ndarray) -> dict[str, tuple[float, float]]:
    one, two = (frame.loc[mask, "language"].fillna("?").value_counts(normalize=True) for mask in (train, valid))
    codes = sorted({str(code) for side in (one, two) for code in side.index})
    return {code: (float(one.get(code, 0.0)), float(two.get(code, 0.0))) for code in codes}
