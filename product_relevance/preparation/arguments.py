"""The options of a preparation, and those that each of its steps has when it runs by itself."""

from dataclasses import dataclass, field

import pandas as pd

from product_relevance.data.arguments import ColumnArguments, FoldArguments
from product_relevance.data.sources.labels import MAX_GRADES
from product_relevance.data.sources.tables import Source
from product_relevance.preparation.steps.translate import Translate
from product_relevance.utils.options import option, required

TRANSLATE = "translate"
OF_TWO_LABELS = ("hard_negatives", "easy_negatives", "filter")  # steps that ask which rows are relevant


@dataclass(kw_only=True)
class StepArguments(ColumnArguments, FoldArguments):
    """The records, how their columns and folds are made, and the file to write."""

    file: str = required("records: .txt .jsonl .csv .tsv .parquet, folder or Hub id")
    task: str = required("QC (category path) or QI (item title)", ["QC", "QI"])
    output: str = required("Parquet to write: the records, then the new rows")
    split: str | None = option(
        None, "split of FILE to read, if there are several (saved data sets, or those of the Hub)"
    )
    data_revision: str | None = option(None, "commit, tag or branch of FILE on the Hub")

    @property
    def source(self) -> Source:
        """The records with their split and revision."""
        return Source(self.file, self.split, self.data_revision, self.reading())


@dataclass(kw_only=True)
class Step:
    """A step of a recipe: its options, and the call that makes rows of rows."""

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        """Return the rows after this step; `attrs["made"]` counts what it made of them."""
        raise NotImplementedError


@dataclass(kw_only=True)
class PreparationArguments(StepArguments):
    """What is prepared, how, and into which file."""

    output: str = required("Parquet to write; its card is written beside it")
    role: str = option(
        "train", "what the rows are for; test rows are never dropped and get no folds", ["train", "test"]
    )
    grades: int = option(2, "number of grades K: labels are 0 to K-1, the best one last; 2: relevant or not")
    taxonomy_of: str | None = option(None, "QC: training records; report which paths of FILE they know")
    shards: int = option(0, "role test: split FILE into so many shards and prepare them into the folder OUTPUT")
    workers: int = option(1, "shards to prepare at the same time")
    steps: list[tuple[str, Step | Translate]] = field(default_factory=list)  # by their names in the recipe

    def __post_init__(self) -> None:
        names = [name for name, _ in self.steps]
        super().__post_init__()
        self.check_folds(self.task)
        self._check_grades(names)
        if TRANSLATE in names[1:]:
            raise ValueError("steps: translate comes first and once: folds keep equal translations together")
        if TRANSLATE in names and self.translation != "none":
            raise ValueError(f"found the step translate and translation {self.translation}, expected one of them")
        if self.role == "test" and set(names) - {TRANSLATE}:
            raise ValueError(f"--role test: found the steps {', '.join(names)}, expected translate only, or none")
        if self.shards:
            self._check_shards()

    @property
    def source(self) -> Source:
        """The records with their split and revision, and labels up to the best grade."""
        return Source(self.file, self.split, self.data_revision, self.reading(self.grades))

    @property
    def translate(self) -> Translate | None:
        """The step translate; None without it."""
        return next((step for _, step in self.steps if isinstance(step, Translate)), None)

    def _check_grades(self, steps: list[str]) -> None:
        if not 2 <= self.grades <= MAX_GRADES:
            raise ValueError(f"--grades {self.grades}: expected from 2 to {MAX_GRADES}")
        if self.grades > 2 and (binary := [name for name in steps if name in OF_TWO_LABELS]):
            raise ValueError(
                f"--grades {self.grades}: found the step {binary[0]}, which knows the labels 0 and 1 only: leave it "
                "out, or map the labels to 0 and 1 with --label_map"
            )

    def _check_shards(self) -> None:
        if self.role != "test":
            raise ValueError("--shards: folds and most steps look at all rows at once; give --role test")
        if self.split or self.data_revision:
            raise ValueError("--shards: only files are split; leave --split and --data_revision out")
        if self.taxonomy_of:
            raise ValueError("--taxonomy_of counts over all rows: leave it out with --shards")
