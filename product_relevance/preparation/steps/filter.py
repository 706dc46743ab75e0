"""Drop, flip or down-weight the rows whose labels a run's out-of-fold scores contradict."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from product_relevance.preparation.arguments import Step, StepArguments
from product_relevance.preparation.labels import corrections, label_errors
from product_relevance.preparation.labels.corrections import Decision
from product_relevance.utils.files import write_table
from product_relevance.utils.options import option

ACTIONS = ("drop", "flip", "down_weight")
NO_RUN = "filter: found no run, expected a run folder whose scores show which rows to list"


@dataclass(kw_only=True)
class Filter(Step):
    """Finds rows whose labels the out-of-fold scores of a run contradict, and drops, flips or down-weights them."""

    run: str | None = option(None, "run folder with trained folds; not needed to apply a decisions file")
    method: str = option("self", "find rows by the scores themselves, or by cleanlab", ["self", "cleanlab"])
    threshold: float = option(
        label_errors.THRESHOLD, "self: list a row if the other label has this probability or more"
    )
    threshold_of: list[str] = option(
        [], "self: KEY=THRESHOLD, another threshold for a label, a language or both (1, de, de/1)"
    )
    filter_by: str = option(label_errors.FILTERS[0], "cleanlab: its rule to find rows", list(label_errors.FILTERS))
    by_language: bool = option(False, "cleanlab: estimate the noise of each language apart")
    apply: str | None = option(None, "drop, flip or down_weight every listed row, or a decisions file")
    weight: float = option(0.5, "weight that down_weight gives")
    output: str | None = option(None, "review table to write (Parquet)")

    def __post_init__(self) -> None:
        label_errors.check_thresholds(self._thresholds())
        if self.method == "cleanlab":
            label_errors.load_cleanlab()
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight: found {self.weight}, expected a number from 0 to 1")
        if self.apply and not self.by_action and not os.path.isfile(self.apply):
            raise ValueError(f"apply: found {self.apply!r}, expected {', '.join(ACTIONS)}, or a decisions file")
        if not self.run and (self.by_action or not self.apply or self.output):
            raise ValueError(NO_RUN)

    @property
    def by_action(self) -> bool:
        """Whether the same is done to every listed row."""
        return self.apply in ACTIONS

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments | None = None) -> pd.DataFrame:
        """Apply what was asked for to records.

        Args:
            frame: Records with labels.
            arguments: Not used; other steps need it.

        Returns:
            The records that are left, with `weight`; `attrs["made"]["filter"]` counts.

        Raises:
            ValueError: Records that the run or the decisions do not know.
        """
        table = self.listed(self.scored(frame)) if self.run else None
        if self.output and table is not None:
            write_table(table, self.output)
        changed, counts = corrections.apply_decisions(frame, self.decided(table))
        listed = {} if table is None else {"listed": len(table)}
        changed.attrs = frame.attrs | {"made": {"filter": listed | counts}}
        return changed

    def scored(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the records that have an out-of-fold score, with it.

        Raises:
            ValueError: No run was given.
        """
        if not self.run:
            raise ValueError(NO_RUN)
        return label_errors.join_scores(frame, label_errors.read_scores(self.run))

    def listed(self, scored: pd.DataFrame) -> pd.DataFrame:
        """Return the review table of scored records."""
        if self.method == "cleanlab":
            return label_errors.confident_learning(scored, self.filter_by, self.by_language)
        return label_errors.self_validation(scored, self._thresholds())

    def decided(self, table: pd.DataFrame | None) -> Mapping[str, Decision]:
        """Return the decisions to apply: those of the file, or the action for every row of the review table."""
        if not self.apply or (self.by_action and table is None):
            return {}
        if table is None or not self.by_action:
            return corrections.read_decisions(self.apply)
        weight = self.weight if self.apply == "down_weight" else None
        by = table["reason"].iloc[0].partition(":")[0] if len(table) else self.method
        rows = zip(table["id"], table["label"], strict=True)
        return {str(i): corrections.make_decision(i, self.apply, label, by, weight) for i, label in rows}

    def _thresholds(self) -> dict[str, float]:
        thresholds = {"*": self.threshold}
        for item in self.threshold_of:
            key, _, threshold = item.partition("=")
            try:
                thresholds[key] = float(threshold)
            except ValueError:
                raise ValueError(f"threshold_of: found {item!r}, expected KEY=THRESHOLD such as de/1=0.95") from None
        return thresholds
