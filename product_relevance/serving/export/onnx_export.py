"""Write a plain classifier as an ONNX graph in float32 or int8, and compare its scores with the model's."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.utils.extras import how_to_install

NAMES = {"float32": "model.onnx", "int8": "model_quantized.onnx"}  # as Hub repositories have them, in onnx/
EXACT = 1e-4  # how far a probability may move in float32
LARGE = 2**31 - 2**26  # bytes above which weights need a file beside the graph: a protobuf ends at 2 GiB


class _Logits(nn.Module):
    """A model as a function of two tensors."""

    def __init__(self, model: nn.Module, options: dict):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options).logits


def require_onnx(kind: str) -> None:
    """Check before anything is loaded that a graph can be written.

    Raises:
        ValueError: an unknown kind, or a package that is not there.
    """
    if kind not in NAMES:
        raise ValueError(f"--onnx {kind}: expected one of {', '.join(NAMES)}")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"--onnx needs {error.name}: {how_to_install('export')}") from None


def write_graph(
    model: nn.Module, rows: dict[str, torch.Tensor], folder: Path, kind: str, max_disagreement: float
) -> float:
    """Write a model's graph, with a batch and a length of any size, and score rows with it.

    int8 is ONNX Runtime's dynamic quantisation: weights of the matrix products in 8 bits with a scale per column,
    activations in 8 bits with a scale per forward.

    Args:
        model: transformers classifier of one or two labels, in float32 on the CPU.
        rows: padded batch of the rows to compare, of `pad_rows`.
        folder: to write in; named onnx by convention.
        kind: float32 or int8.
        max_disagreement: how far a probability may move in int8.

    Returns:
        The largest difference of a probability, of the rows in one batch or each alone.

    Raises:
        ValueError: a model that cannot be traced; scores that moved further than EXACT or `max_disagreement`.
    """
    folder.mkdir()
    path = folder / NAMES[kind]
    model.eval()
    options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    with torch.no_grad():
        expected = score_logits(model(**rows, **options).logits.numpy())
    _trace(_Logits(model, options), rows, path, quantised=kind == "int8")
    found = np.stack([_run(path, [rows]), _run(path, _each_alone(rows))])
    moved = float(np.abs(found - expected).max())
    limit = EXACT if kind == "float32" else max_disagreement
    if not moved <= limit:
        raise ValueError(
            f"--onnx {kind}: a canary's probability moves by {moved:.4f}, more than {limit}"
            + ("; a larger --max_disagreement takes it all the same" if kind == "int8" else "")
        )
    return moved


def _each_alone(rows: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return each row of a batch as a batch of its own, without padding."""
    lengths = rows["attention_mask"].sum(dim=1).tolist()
    return [{name: part[[i], :n] for name, part in rows.items()} for i, n in enumerate(lengths)]


def _trace(model: nn.Module, batch: dict[str, torch.Tensor], path: Path, *, quantised: bool) -> None:
    shape = {0: "batch", 1: "length"}
    with _quiet("torch.onnx"), torch.no_grad():  # it logs about packages for pictures
        try:
            program = torch.onnx.export(
                model,
                (batch["input_ids"], batch["attention_mask"]),
                dynamo=True,
                verbose=False,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_shapes=(shape, shape),
            )
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(
                f"--onnx: torch {torch.__version__} cannot trace {type(model.model).__name__}: "
                f"{str(error).strip().splitlines()[0]}; export without --onnx"
            ) from error
    assert program is not None  # without a file to write, a program is returned
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # they hold where the code lies on this machine
    large = sum(p.numel() * p.element_size() for p in model.parameters()) > LARGE
    program.save(path.with_suffix(".tmp") if quantised else path, external_data=large)
    if quantised:
        _quantise(path.with_suffix(".tmp"), path, large)


@contextmanager
def _quiet(logger: str | None) -> Iterator[None]:
    """Keep a logger's warnings, and Python's, from the user."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _quantise(source: Path, path: Path, large: bool) -> None:
    """Write the graph with weights of 8 bits in the place of the one in float32."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    graph.graph.ClearField("value_info")  # the exporter's shapes of transposed weights, which the quantiser rejects
    with _quiet(None):  # it recommends a fusion of layers that has no say in the scores
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
        )
    for file in source.parent.glob(f"{source.name}*"):
        file.unlink()


def _run(path: Path, batches: list[dict[str, torch.Tensor]]) -> np.ndarray:
    """Score batches; return the probability of each row."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tensors = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in batches]
    return np.concatenate([score_logits(session.run(["logits"], inputs)[0]) for inputs in tensors])


def score_logits(logits: np.ndarray) -> np.ndarray:
    """Return the probability of relevance of each row, of one logit or two."""
    two = logits if logits.shape[1] == 2 else np.hstack([np.zeros_like(logits), logits])
    return to_probabilities(two)
