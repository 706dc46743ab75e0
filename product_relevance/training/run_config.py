"""The arguments of a run with what run.json says of it: one frozen object for all steps of a training."""

from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.utils.run_record import RunRecord


@dataclass(frozen=True)
class RunConfig:
    """What a run is trained with.

    Attributes:
        model: the base model and its adapter.
        data: records, columns and folds.
        objective: what is minimised.
        training: of the Trainer.
        record: what run.json says before any fold; None until the records are read.
    """

    model: ModelArguments
    data: DataArguments
    objective: ObjectiveArguments
    training: TrainingArguments
    record: RunRecord | None = None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.training.output_dir)
