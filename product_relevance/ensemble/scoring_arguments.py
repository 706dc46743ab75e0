"""How a file is scored, and by which ensemble: the options of `relevance predict` and of a shard."""

from dataclasses import dataclass

from product_relevance.data.arguments import MAX_MISSING
from product_relevance.ensemble import stack as stacking
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.models.loading.checkpoints import asked_dtype


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How records are read, scored and decided.

    Attributes:
        vote: how the folds' scores are combined, see `RelevanceEnsemble.predict`.
        threshold: kind of a threshold of the run, or a number as text.
        translation: `none`, `column` or a table, see `loading.add_run_columns`.
        max_missing_translations: see `translations.add_translation`.
        on_bad_rows: "error" stops at rows with a defect; "skip" scores them as far as they can be read.
        chunk_rows: rows between two safe points.
        with_texts: write a table for people to read, with the texts, in place of the source's own fields.
    """

    vote: str | None = None
    threshold: str = "f1"
    translation: str | None = None
    max_missing_translations: float = MAX_MISSING
    on_bad_rows: str = "error"
    chunk_rows: int = 5000
    with_texts: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoringArguments(FileOptions, LoadingArguments):
    """How records are scored, and by what.

    Attributes:
        model: run folder, stack, downloaded folder or Hub id.
        revision: of a Hub id.
        dtype: see `RelevanceEnsemble.from_pretrained`.
        compile: compile the model, for all shapes at once; the first batches take minutes.
        compile_layers: compile one layer for all layers and shapes, which takes seconds; what follows a shared prefix
            is then scored without.
        device: None takes a GPU where there is one.
    """

    model: str
    revision: str | None = None
    device: str | None = None
    dtype: str = "auto"
    compile: bool = False
    compile_layers: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.compile_layers:
            raise ValueError("--compile, --compile_layers: found both, expected one of them")
        object.__setattr__(self, "dtype", asked_dtype(self.dtype))  # of this process, for all workers and resumptions

    def load(self):
        """Load the ensemble or stack.

        Raises:
            ValueError: See `RelevanceEnsemble.from_pretrained`; reasoning for a stack; what cannot be compiled.
        """
        from product_relevance.ensemble.ensemble import RelevanceEnsemble

        if not stacking.is_stack(self.model):
            ensemble = RelevanceEnsemble.from_pretrained(
                self.model, revision=self.revision, device=self.device, dtype=self.dtype, loading=self
            )
            if self.compile or self.compile_layers:
                _compile(ensemble, self.compile_layers)
            return ensemble
        if self.compile or self.compile_layers:
            raise ValueError(
                "--compile, --compile_layers: a stack loads one base after the other; give one of its runs"
            )
        if self.reasoning_tokens:
            raise ValueError("--reasoning_tokens: a stack was made of scores without reasoning; give one of its runs")
        return stacking.RelevanceStack.from_pretrained(self.model, device=self.device, dtype=self.dtype, loading=self)


def _compile(ensemble, layers: bool) -> None:
    import torch

    from product_relevance.models.compiled_layers import compile_layers

    if ensemble.run.is_kernel:
        raise ValueError("--compile, --compile_layers: a kernel reads short texts, of any length; leave it out")
    if ensemble.fold_models.shared_layers and len(ensemble.folds) > 1:
        raise ValueError("--compile, --compile_layers: the folds of this run share their lowest layers; leave it out")
    # Graphs are for all shapes, so that none has to wait; a causal model has four, and each adapter those of its own.
    known = torch._dynamo.config
    known.recompile_limit = max(known.recompile_limit, 4 * len(ensemble.folds) + 4)
    if layers:
        compile_layers(ensemble.model)
    else:
        ensemble.model.compile(dynamic=True)
