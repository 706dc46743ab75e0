"""What run.json and fold.json say, as frozen records: written as they stand, read from any version."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True, kw_only=True)
class JsonRecord:
    """A JSON object whose known keys are fields.

    Attributes:
        more: keys that this version does not know; they are written again as they were.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset()  # written as null where there is nothing; other fields are left out

    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read the content of a file; keys that an older version lacks are None."""
        known = {each.name for each in fields(cls)} - {"more"}
        return cls(
            **{key: value for key, value in content.items() if key in known},
            more={key: value for key, value in content.items() if key not in known},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file, the fields in their order and then what this version does not know."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "more"}
        return {key: value for key, value in values.items() if value is not None or key in self.NULLS} | {**self.more}


@dataclass(frozen=True, kw_only=True)
class RunRecord(JsonRecord):
    """What run.json says of a run before any fold; what its folds say together comes behind.

    Attributes:
        format: of the run folder.
        task: QC, QI or both.
        base: name and revision of the base model.
        adapter: settings of LoRA; None for full fine-tuning.
        pooling: of the head; None for a language model.
        max_length: tokens of a pair at most.
        template: of `Template.to_dict`.
        columns: how the columns were made.
        labels: names of the two labels.
        folds_by: how the folds were made, with the digests of what each validates on.
        data: facts of the records.
        arguments: all arguments, by group.
        versions: of Python and the packages.
        device: a GPU's name, or cpu.
        processes: that trained.
        pairs_per_step: of an optimiser step, over all processes.
        weights: range of the rows' weights; None where all are 1.
        stage: language_model; None for a relevance run.
        first_stage: parent run of the warm start.
        teacher: teacher run, or stack.
    """

    NULLS: ClassVar[frozenset[str]] = frozenset({"adapter", "pooling", "weights", "first_stage", "teacher"})

    format: int
    task: str
    base: Mapping[str, Any]
    adapter: Mapping[str, Any] | None = None
    pooling: str | None = None
    max_length: int | None = None
    template: Mapping[str, Any] | None = None
    columns: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    folds_by: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    device: str | None = None
    processes: int | None = None
    pairs_per_step: int | None = None
    weights: Mapping[str, Any] | None = None
    stage: str | None = None
    first_stage: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class FoldRecord(JsonRecord):
    """What fold.json says of a trained fold.

    Attributes:
        name: of the fold.
        stage: language_model; None for a relevance fold.
        train_rows: labelled rows that it trained on.
        valid_rows: rows that it did not see, and scored at the end.
        texts: distinct texts of a language model.
        loss: mean loss of a language model.
        seconds: of the training, over all resumes.
        pairs_per_second: trained pairs.
        tokens_per_second: without padding.
        padding_ratio: padded tokens per real token.
        base: name, revision and fingerprint of the base model.
        resumed: whether it went on from a checkpoint.
        steps: of the optimiser.
        best_step: whose checkpoint was taken; None where none was chosen.
        engine: what trained the model.
        history: the Trainer's log.
        settings: what shaped the weights.
        settings_sha256: digest of `settings`.
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
    base: Mapping[str, Any] | None = None
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
