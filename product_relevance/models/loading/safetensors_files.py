"""Check safetensors files: headers before anything is read, and that all values are finite."""

from product_relevance.utils.json_files import check_plain

MAX_HEADER = 10_000_000  # bytes; names and shapes of some 80,000 tensors
DTYPES = ("F32", "BF16", "F16")


def read_header(path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each tensor by name; no value is read.

    Raises:
        ValueError: with the file's name: none there, a Git LFS pointer, a file that is incomplete or broken.
    """
    from safetensors import SafetensorError, safe_open

    size = check_plain(path)
    with open(path, "rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_HEADER, size - 8):
        raise ValueError(
            f"{path}: a safetensors header of {length} bytes in a file of {size}; the file is incomplete or "
            "broken: get it again"
        )
    try:
        with safe_open(path, "np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except (SafetensorError, ValueError) as error:  # ValueError: bytes that are no UTF-8
        raise ValueError(f"{path}: the file is incomplete or broken ({str(error)[:200]}): get it again") from None


def load_weights(path) -> dict:
    """Return the tensors of a file by name.

    Raises:
        ValueError: from `read_header`, or a value that is not finite, with the tensor's name.
    """
    from safetensors.torch import load_file

    read_header(path)
    tensors = load_file(path)
    for name, value in tensors.items():
        _check_finite(path, name, value)
    return tensors


def check_finite(path) -> None:
    """Raise ValueError if a file has a value that is not finite; one tensor at a time is in memory.

    Raises:
        ValueError: as `load_weights`.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        for name in read_header(path):
            _check_finite(path, name, file.get_tensor(name))


def _check_finite(path, name: str, value) -> None:
    import torch

    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        raise ValueError(f"{path}: {name} has {bad} of {value.numel()} values that are not finite; the file is broken")
