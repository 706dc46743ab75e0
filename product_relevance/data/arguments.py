"""Arguments of the records, the columns made from them, and the folds: as flags, as a recipe YAML, or both."""

from dataclasses import dataclass

from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.sources.labels import MAX_GRADES
from product_relevance.text.language_codes import normal_codes
from product_relevance.utils import tasks
from product_relevance.utils.options import option, required

GROUPINGS = ("query", "prefix", "query+prefix")  # what may never cross folds
MAX_MISSING = 0.1  # the wrong table, or one of queries in another form, loses far more
PATH_SEPARATOR_HELP = "text between the levels of a path; auto finds one of , > / | ›"
LEVEL_NAMES_HELP = (
    "file with level names that contain the separator, one per line; none: no such names, not even known ones"
)
MISSING_HELP = "share of the queries that are not English that may lack a translation"


@dataclass(kw_only=True)
class ColumnArguments(ReadingArguments):
    """The columns that are made from the records: clean texts, translations, languages."""

    on_bad_rows: str = option(
        "error", "bad rows: stop with an error, or skip them and list them as rejects", ["error", "skip"]
    )
    lowercase: bool = option(False, "lower-case both texts")
    language_fix: str = option(
        "identify", "how rows labelled en that are not English get their language", ["none", "identify", "translation"]
    )
    translation: str = option("none", "translations: none, column (translated_query), or a table (CSV, TSV, Parquet)")
    max_missing_translations: float = option(MAX_MISSING, MISSING_HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_missing_translations <= 1:
            found = self.max_missing_translations
            raise ValueError(f"--max_missing_translations {found}: expected a share from 0 to 1")


@dataclass(kw_only=True)
class FoldArguments:
    """The folds, and how a category path is divided into the levels that may make their groups."""

    num_folds: int = option(3, "number of folds")
    group_by: str = option("query", "what never crosses folds", [*GROUPINGS])
    prefix_levels: int = option(2, "levels of the path that make a prefix group")
    fold_seed: int = option(42, "seed of the fold assignment")
    path_separator: str = option("auto", PATH_SEPARATOR_HELP)
    level_names: str | None = option(None, LEVEL_NAMES_HELP)

    def check_folds(self, task: str, way_out: str = "") -> None:
        """Check the numbers, and that there are prefixes to group by.

        Args:
            task: QC, QI or both.
            way_out: What else than folds this program has, for the message.

        Raises:
            ValueError: A number is too small, or a task without category paths is grouped by their prefixes.
        """
        if self.num_folds < 2:
            raise ValueError(f"--num_folds {self.num_folds}: expected at least 2{way_out}")
        if self.prefix_levels < 1:
            raise ValueError(f"--prefix_levels {self.prefix_levels}: expected at least 1")
        if task != "QC" and self.group_by != "query":
            raise ValueError(f"--group_by {self.group_by}: an item title has no category prefix; use query for {task}")


@dataclass(kw_only=True)
class GradeArguments:
    """How many grades the labels have, and which of them count as relevant."""

    grades: int = option(2, "number of grades K: labels are 0 to K-1, the best one last; 2: relevant or not")
    relevant_from: int | None = option(
        None, "lowest grade that counts as relevant for F1, thresholds and decisions (default: K/2, rounded down)"
    )

    def check_grades(self) -> None:
        """Check the number of grades, and take the upper half of them as relevant unless a grade is given.

        Raises:
            ValueError: Too few or too many grades, or `relevant_from` is none of them above 0.
        """
        if not 2 <= self.grades <= MAX_GRADES:
            raise ValueError(f"--grades {self.grades}: expected from 2 to {MAX_GRADES}")
        if self.relevant_from is None:
            self.relevant_from = self.grades // 2
        if not 1 <= self.relevant_from < self.grades:
            found = f"--relevant_from {self.relevant_from} with --grades {self.grades}"
            raise ValueError(f"{found}: expected a grade from 1 to {self.grades - 1}")


@dataclass
class DataArguments(ColumnArguments, FoldArguments, GradeArguments):
    """The records, the columns made from them, and the folds."""

    _argument_group_name = "the records, the columns made from them, and the folds"

    train_file: str = required(
        "labelled records: .txt .jsonl .csv .tsv .parquet, folder or Hub id; for QC,QI two, with a comma between"
    )
    task: str = required("QC (category path), QI (item title), or one model for both", [*tasks.CHOICES])
    split: str | None = option(
        None, "split to read, if the records have several (saved data sets, or those of the Hub)"
    )
    data_revision: str | None = option(None, "commit, tag or branch of the records on the Hub")
    task_mixing: str = option(
        "proportional",
        "QC,QI: share of each task in the loss: proportional to its rows, equal, or a temperature from 1 up",
    )
    input_style: str = option(
        "both", "text of the query: itself, its translation, or both", ["original", "translation", "both"]
    )
    language_tag: bool = option(False, "put the language in front of the query, as [de]")
    task_tag: bool | None = option(
        None, "put the kind of the target in front of it ('item title: '); by default for QC,QI only"
    )
    path_style: str = option("raw", "how a QC path is rendered", ["raw", "markers", "level_tags", "leaf_first"])
    random_levels: float = option(
        0.0,
        "share of the QC rows that show only the last levels of their path, anew in each epoch (for reproduction)",
    )
    fold: str = option("all", "which folds to train: all, the number of one, or full (all rows, no validation)")
    held_out_languages: list[str] = option([], "validate on these languages alone, in place of folds (de pt-BR)")
    eval_rows: int = option(2000, "validation rows to score during training; the whole fold is scored at the end")
    ranking_measures: list[str] = option(
        [], "measures of the order of each query's validation rows, as ir-measures names them (nDCG@10 RR@10)"
    )
    global_batch_size: int | None = option(
        None, "pairs per step over all processes; gradient accumulation follows from it"
    )
    early_stopping_patience: int | None = option(None, "stop a fold after so many evaluations without a better metric")
    tokens_per_forward: int | None = option(
        None,
        "split batches into micro-batches of at most so many padded tokens; the gradient stays the same. On a GPU the "
        "default is what its free memory holds, up to 16384",
    )
    share_prefixes: bool = option(
        False, "forward the prefix that pairs share once per batch (causal bases without dropout)"
    )
    folds_parallel: int = option(
        1, "folds to train at the same time, each in a process and on a GPU of its own; 0: one for each GPU"
    )
    keep_checkpoints: bool = option(False, "keep the checkpoints of finished folds")
    overwrite: bool = option(False, "replace a finished fold in output_dir")
    mixed_folds: bool = option(
        False, "join folds of output_dir that were trained with other settings; run.json and report.md say which"
    )
    resume_allow: list[str] = option(
        [], "arguments that may differ from those of the checkpoint of --resume_from_checkpoint"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_grades()
        self.check_folds(self.task, "; --fold full trains on all rows")
        self.held_out_languages = normal_codes(self.held_out_languages)
        if self.fold not in ("all", "full") and not self.fold.isdigit():
            raise ValueError(f"--fold {self.fold}: expected all, full or a number from 0 to {self.num_folds - 1}")
        if self.fold.isdigit() and int(self.fold) >= self.num_folds:
            raise ValueError(f"--fold {self.fold}: expected a number from 0 to {self.num_folds - 1}")
        if self.eval_rows < 1:
            raise ValueError(f"--eval_rows {self.eval_rows}: expected at least 1; --eval_strategy no evaluates never")
        if not 0 <= self.random_levels <= 1:
            raise ValueError(f"--random_levels {self.random_levels}: expected a share from 0 to 1")
        if self.random_levels and self.task == "QI":
            raise ValueError(
                "--random_levels shortens category paths: an item title has no levels; leave it out for QI"
            )
        if self.tokens_per_forward is not None and self.tokens_per_forward < 1:
            raise ValueError(f"--tokens_per_forward {self.tokens_per_forward}: expected at least 1; 8192 suits a GPU")
        if self.folds_parallel < 0:
            raise ValueError(
                f"--folds_parallel {self.folds_parallel}: expected how many folds train at the same time, or 0 for "
                "one on each GPU"
            )
        if self.global_batch_size is not None and self.global_batch_size < 1:
            raise ValueError(f"--global_batch_size {self.global_batch_size}: expected at least 1 pair per step")
        tasks.mixing_exponent(self.task_mixing)
        if self.task_mixing != "proportional" and self.task != tasks.BOTH:
            raise ValueError(f"--task_mixing {self.task_mixing}: there is nothing to mix; it belongs to --task QC,QI")
        self.files()

    def files(self) -> dict[str, str]:
        """Return the file of each task.

        Raises:
            ValueError: not one file per task.
        """
        known = tasks.task_names(self.task)
        found = [self.train_file] if len(known) == 1 else [name.strip() for name in self.train_file.split(",")]
        if len(found) != len(known) or not all(found):
            raise ValueError(
                f"--train_file {self.train_file}: found {len(found)} files for --task {self.task}, expected one for "
                "each task in this order, as train_QC.txt,train_QI.txt"
            )
        return dict(zip(known, found, strict=True))
