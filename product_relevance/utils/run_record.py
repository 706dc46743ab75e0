"""What run.json and fold.json say, as frozen records: written as they stand, read from any version."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True, kw_only=True)
class JsonRecord:
    """A JSON object whose known keys are fields.

    Attributes:
        more: keys that this version does not know; they are written again as they were.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset()  # written as null where they are None; other empty ones are left out

    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read the content of a file; keys that an older version lacks are None or empty.

        Raises:
            ValueError: a key that every version has is missing.
        """
        required = [each.name for each in fields(cls) if each.default is each.default_factory is MISSING]
        if missing := [name for name in required if name not in content]:
            raise ValueError(f"found no {missing[0]}, expected the keys {', '.join(required)}")
        known = {each.name for each in fields(cls)} - {"more"}
        return cls(
            **{key: value for key, value in content.items() if key in known},
            more={key: value for key, value in content.items() if key not in known},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file, the fields in their order and then what this version does not know."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "more"}
        written = {key: value for key, value in values.items() if value not in (None, {}) or key in self.NULLS}
        return written | {**self.more}


@dataclass(frozen=True, kw_only=True)
class RunRecord(JsonRecord):
    """What run.json says of a run before any fold.

    Attributes:
        format: of the run folder.
        task: QC, QI or both.
        base: name and revision of the base model.
        adapter: settings of LoRA; None for full fine-tuning and for kernels.
        pooling: of the head; None for a language model.
        max_length: tokens of a pair at most.
        template: of `Template.to_dict`.
        columns: how the columns were made.
        labels: names of the labels, of two or of so many grades.
        relevant_from: lowest grade that counts as relevant; None of two labels.
        folds_by: how the folds were made, with the digests of what each validates on.
        data: facts of the records.
        arguments: all arguments, by group.
        versions: of Python and the packages.
        device: a GPU's name, or cpu.
        processes: that trained.
        pairs_per_step: of an optimiser step, over all processes.
        weights: range of the rows' weights; None where all are 1.
        stage: language_model; None for a relevance run.
        first_stage: parent run of the warm start, a `ParentRecord` as JSON.
        teacher: teacher run, or stack, a `ParentRecord` as JSON.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset({"adapter", "pooling", "weights", "first_stage", "teacher"})

    format: int | None = None  # a published run does not say it
    task: str
    base: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] | None = None
    pooling: str | None = None
    max_length: int | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    relevant_from: int | None = None
    folds_by: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    processes: int | None = None
    pairs_per_step: int | None = None
    weights: Mapping[str, Any] | None = None
    stage: str | None = None
    first_stage: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None

    @property
    def is_kernel(self) -> bool:
        """Whether its folds are kernels: `--adapter kernel`, which reads query and target each by itself."""
        return self.pooling == "sides"


@dataclass(frozen=True, kw_only=True)
class FinishedRunRecord(RunRecord):
    """What run.json says of a finished run.

    Attributes:
        finished: when, in UTC.
        folds: what fold.json says of each, without what stays there.
        seconds: of all trainings.
        attn_implementation: of the base model.
        mixed_folds: settings in which the folds differ, with the value of each fold.
        taxonomy_sha256: of taxonomy.json.
        thresholds: for F1 and macro-F1; of two tasks by task; empty of a language model.
        grade_thresholds: rising, between the grades; None of two labels.
        thresholds_from: the rows that they were chosen on.
        metrics: of the out-of-fold scores; None where no fold validated.
        decision: what `relevance decide` chose, see `DecisionRule`.
        grade_calibration: of the distribution over the grades, by `relevance decide`.
    """

    max_length: int  # loading holds every run.json to it (`manifest_schema.check_run_file`)
    finished: str | None = None
    folds: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None
    attn_implementation: str | None = None
    mixed_folds: Mapping[str, Any] | None = None
    taxonomy_sha256: str | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    grade_thresholds: list[float] | None = None
    thresholds_from: str | Mapping[str, str] | None = None
    metrics: Mapping[str, Any] | None = None
    decision: Mapping[str, Any] | None = None
    grade_calibration: Mapping[str, Any] | None = None

    @property
    def fold_names(self) -> list[str]:
        """Names of the folds."""
        return [fold["name"] for fold in self.folds]

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json; where there are thresholds, metrics that there are not are a fact."""
        content = super().to_json()
        return content | {"metrics": self.metrics} if self.thresholds else content


@dataclass(frozen=True, kw_only=True)
class PublicRunRecord(FinishedRunRecord):
    """What ensemble.json says of a run: its public part (`manifest.public_run`).

    Attributes:
        recipe: arguments that shaped the weights.
    """

    ALWAYS: ClassVar[tuple[str, ...]] = (
        *("format", "task", "base", "adapter", "pooling", "max_length", "template", "columns", "labels", "folds_by"),
        *("data", "thresholds", "thresholds_from", "metrics", "folds", "versions", "device", "processes", "seconds"),
        *("finished", "recipe"),
    )
    # Of runs that have them.
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        *("decision", "first_stage", "teacher", "taxonomy_sha256", "attn_implementation", "relevant_from"),
        *("grade_thresholds", "grade_calibration"),
    )

    seconds: float
    device: str
    processes: int
    recipe: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the run of ensemble.json, its keys in the order that they have had from the start."""
        optional = {key: value for key in self.OPTIONAL if (value := getattr(self, key)) is not None}
        return {key: getattr(self, key) for key in self.ALWAYS} | optional


@dataclass(frozen=True, kw_only=True)
class StackRecord(JsonRecord):
    """What stack.json says.

    Attributes:
        format: of the stack's folder.
        kind: relevance-stack.
        task: QC or QI.
        data: facts of the records of its runs.
        labels: names of the grades of its runs; empty of two labels.
        relevant_from: lowest grade that counts as relevant; None of two labels.
        members, features: path, coefficient, thresholds and end of each run; coefficients of features, by their kind.
        intercept: of the logistic regression.
        thresholds: for F1 and macro-F1.
        thresholds_from: the rows that they were chosen on.
        decision: see `DecisionRule`.
        finished: when, in UTC.
        versions: of Python and the packages.
        columns, arguments, grade_thresholds, grade_calibration: always empty: its runs have their own.
    """

    format: int
    kind: str
    task: str
    data: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    relevant_from: int | None = None
    members: list[dict[str, Any]]
    features: Mapping[str, Any] = field(default_factory=dict)
    intercept: float
    thresholds: Mapping[str, Any]
    thresholds_from: str | None = None
    decision: Mapping[str, Any]
    finished: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    grade_thresholds: list[float] | None = None
    grade_calibration: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ParentRecord(JsonRecord):
    """What run.json says of a run that it was built on.

    Attributes:
        name: as it was given.
        task: QC, QI or both.
        folds: names of its folds.
        data: source, sha256 and rows of its records.
        finished: when, in UTC.
        folds_by: how its folds were made, with the digests of what each validates on.
        files: sha256 of the records of each task.
        parents: the runs that it was built on itself, as JSON; an older run does not say them.
        runs: of a stack, as JSON.
        columns: how its columns were made; to compare it only, so it is written nowhere.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset({"finished"})

    name: str
    task: str
    folds: list[str]
    data: Mapping[str, Any]
    finished: str | None = None
    folds_by: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    parents: list[dict[str, Any]] | None = None
    runs: list[dict[str, Any]] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FoldRecord(JsonRecord):
    """What fold.json says of a trained fold.

    Attributes:
        name: of the fold.
        stage: language_model; None for a relevance fold.
        train_rows, valid_rows: labelled rows that it trained on, and rows that it did not see, scored at the end.
        texts, loss: distinct texts of a language model, and its mean loss.
        seconds: of the training, over all resumes.
        pairs_per_second, tokens_per_second: trained pairs, and their tokens without padding.
        padding_ratio: padded tokens per real token.
        base: name, revision and fingerprint of the base model.
        resumed: whether it went on from a checkpoint.
        steps, best_step: of the optimiser; and whose checkpoint was taken, None where none was chosen.
        engine: what trained the model.
        history: the Trainer's log.
        settings, settings_sha256: what shaped the weights, and its digest.
        changes: settings that changed at a resume.
        attn_implementation: of the base model.
        starts_from: task and fold of the parent run.
        shared: what all folds of the run have in common.
        unlabelled_rows: that it trained on beside the labelled ones.
        tasks: rows and share of the loss of each task.
        metrics: of its out-of-fold scores at its own threshold.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset({"best_step", "attn_implementation", "starts_from"})

    name: str
    stage: str | None = None
    train_rows: int | None = None
    valid_rows: int | None = None
    texts: int | None = None
    loss: float | None = None
    seconds: float | None = None
    pairs_per_second: float | None = None
    tokens_per_second: float | None = None
    padding_ratio: float | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool | None = None
    steps: int | None = None
    best_step: int | None = None
    engine: str | None = None
    history: list[dict[str, Any]] | None = None
    settings: Mapping[str, Any] | None = None
    settings_sha256: str | None = None
    changes: list[dict[str, Any]] | None = None
    attn_implementation: str | None = None
    starts_from: Mapping[str, str] | None = None
    shared: Mapping[str, Any] | None = None
    unlabelled_rows: int | None = None
    tasks: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
