"""What an export writes."""

from dataclasses import dataclass

from product_relevance.ensemble.loading_arguments import MAX_DISAGREEMENT

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `export.export_classifier` writes.

    Attributes:
        fold: name of the one fold to export; the mean of the folds' weights if None.
        revision: of the ensemble on the Hub.
        dtype: of the written weights.
        overwrite: replace an export that is there.
        max_disagreement: how far the mean weights may be from the mean of the folds' probabilities, and a graph in
            int8 from the model in float32.
        onnx: float32 or int8, for a graph beside the weights, in onnx/; none if None.

    Raises:
        ValueError: an unknown dtype, or one that a graph is not made of.
    """

    fold: str | None = None
    revision: str | None = None
    dtype: str = "float32"
    overwrite: bool = False
    max_disagreement: float = MAX_DISAGREEMENT
    onnx: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype {self.dtype}: expected one of {', '.join(DTYPES)}")
        if self.onnx is not None and self.dtype != "float32":
            raise ValueError(
                f"--onnx {self.onnx} with --dtype {self.dtype}: a graph is made of float32; leave --dtype out"
            )

    @property
    def column(self) -> str:
        """Name of the exported model among the folds of the ensemble."""
        return self.fold or "weights"
