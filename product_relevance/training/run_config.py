"""The arguments of a run, and what run.json says of it: one frozen object for all steps of a training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import TrainingArguments

from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.training.arguments import ObjectiveArguments, parse_arguments, read_arguments
from product_relevance.utils.run_record import RunRecord


@dataclass(frozen=True)
class RunConfig:
    """What a run is trained with.

    Attributes:
        model: the base model and its adapter.
        data: records, columns and folds.
        objective: what is minimised.
        training: of the Trainer.
    """

    model: ModelArguments
    data: DataArguments
    objective: ObjectiveArguments
    training: TrainingArguments

    @classmethod
    def from_recipe(cls, recipe: str | Path | None = None, **options: Any) -> Self:
        """Read a recipe as `train_relevance.py` does.

        Args:
            recipe: YAML file, or the name of a shipped one; None takes the options alone.
            options: replace what the recipe says: `output_dir="runs/x"`, `lora_r=8`. Their names are those of the
                flags; None takes a key of the recipe away.

        Raises:
            ValueError: unknown option or recipe key, or a value of another type or outside its range.
        """
        return cls(*read_arguments(recipe, options))

    @classmethod
    def from_flags(cls, argv: list[str] | None = None) -> Self:
        """Parse a command line: `[RECIPE] [--flag value ...]`, a flag wins.

        Args:
            argv: without the program's name; `sys.argv[1:]` when None.

        Raises:
            ValueError: unknown flag or recipe key, or a value outside its range.
        """
        return cls(*parse_arguments(argv))

    def describe(self, record: RunRecord) -> "DescribedConfig":
        """Return the configuration with what run.json says of the run."""
        return DescribedConfig(self.model, self.data, self.objective, self.training, record)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(str(self.training.output_dir))


@dataclass(frozen=True)
class DescribedConfig(RunConfig):
    """A configuration whose records were read.

    Attributes:
        record: what run.json says of the run before any fold.
    """

    record: RunRecord
