"""Open a checkpoint for inference: safetensors only, no code from the repository, and a name for its exact content."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from product_relevance.models.loading import packaged_bases
from product_relevance.models.loading.base_errors import check_folder, explain_errors, refuse_code
from product_relevance.utils.files import sha256_of

DTYPES = ("auto", "bfloat16", "float32")


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint is loaded from, its config, and what makes its content unique."""

    name: str
    folder: str  # what from_pretrained takes: a folder or a Hub id
    revision: str | None
    config: Any
    identity: str  # the Hub's commit; of a folder or an embedded base the sha256

    @property
    def settings(self) -> dict:
        """What marks results of this checkpoint: a folder by its content, wherever it lies."""
        return {"model": "" if os.path.isdir(self.name) else self.name, "revision": self.identity}


def open_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Read a checkpoint's config; the weights stay on disk.

    Args:
        name: A folder, a Hub id or an `embedded:` base.
        revision: Commit, tag or branch on the Hub.

    Raises:
        ValueError: No such checkpoint, or one that asks for code from its repository.
    """
    from transformers import AutoConfig

    folder = packaged_bases.resolve_base(name)
    check_folder(name, folder)
    with explain_errors(name, "config"):
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    refuse_code(name, config)
    return Checkpoint(name, folder, revision, config, checkpoint_identity(name, revision))


def resolve_revision(name: str, revision: str | None = None) -> str | None:
    """Return the commit of a checkpoint on the Hub, which pins its content; `revision` itself for local ones."""
    from transformers.utils import cached_file

    folder = packaged_bases.resolve_base(name)
    if os.path.isdir(folder):
        return revision
    # configs no longer hold their commit (transformers 5.23); the client's cache does, by its folder's name
    check_folder(name, folder)
    with explain_errors(name, "config"):
        path = Path(cached_file(folder, "config.json", revision=revision) or folder).as_posix()
    found = re.search(r"/snapshots/([0-9a-f]{40})/", path)
    return found.group(1) if found else revision


def load_tokenizer(checkpoint: Checkpoint):
    """Load the tokenizer; words such as `</s>` inside a text are read as plain text.

    Raises:
        ValueError: It cannot be loaded.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils import has_file

    folder, revision = checkpoint.folder, checkpoint.revision
    with explain_errors(checkpoint.name, "tokenizer"):
        # transformers 5 rebuilds some tokenizers from their vocabulary alone: MADLAD-400's then lacks the byte
        # fallback and reads an unknown letter as the end of the text. The plain class takes tokenizer.json as it is.
        kind = PreTrainedTokenizerFast if has_file(folder, "tokenizer.json", revision) else AutoTokenizer
        tokenizer = kind.from_pretrained(folder, revision=revision or "main", trust_remote_code=False)
    tokenizer.split_special_tokens = True
    return tokenizer


def load_model(auto_class, checkpoint: Checkpoint, device: str, dtype: str):
    """Load the weights for inference.

    Args:
        auto_class: Such as transformers' AutoModelForSeq2SeqLM.
        checkpoint: From `open_checkpoint`.
        device: cpu, cuda, cuda:1.
        dtype: float32, bfloat16, float16.

    Raises:
        ValueError: No safetensors, or weights that do not fill the model.
    """
    with explain_errors(checkpoint.name, "weights"):
        model, info = auto_class.from_pretrained(
            checkpoint.folder,
            revision=checkpoint.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if info["missing_keys"]:
        raise ValueError(f"{checkpoint.name}: its file lacks weights: {', '.join(sorted(info['missing_keys'])[:5])}")
    return model.to(device).eval()


def choose_device(device: str | None = None) -> str:
    """Return the device asked for, else a GPU when there is one (cuda, or mps on a Mac), else the CPU.

    Raises:
        ValueError: no name of a device, or a GPU that is not there.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device}: expected cpu, cuda, cuda:1 or mps") from None
    if asked.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device}: torch {torch.__version__} finds no GPU of a Mac here: leave it out")
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device}: torch {torch.__version__} finds {torch.cuda.device_count()} GPUs here: leave it out, "
            "or take cpu"
        )
    return device


def asked_dtype(dtype: str) -> str:
    """Return the dtype asked for, and for `auto` what the variable RELEVANCE_DTYPE says, if it is set.

    With float32, machines of different kinds give the same scores.

    Raises:
        ValueError: RELEVANCE_DTYPE is none of auto, bfloat16, float32.
    """
    found = os.environ.get("RELEVANCE_DTYPE") or "auto"
    if found not in DTYPES:
        raise ValueError(f"RELEVANCE_DTYPE: found {found!r}, expected {', '.join(DTYPES)}")
    return found if dtype == "auto" else dtype


def choose_dtype(dtype: str, device: str) -> str:
    """Return the dtype asked for; `auto` is bfloat16 where the device multiplies it in hardware, else float32."""
    import torch

    dtype = asked_dtype(dtype)
    if dtype != "auto":
        return dtype
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device == "cpu" and cpu_has_bfloat16()
    return "bfloat16" if fast else "float32"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has AMX or AVX512-BF16; on one without, bfloat16 is many times slower than float32."""
    import torch

    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def checkpoint_identity(name: str, revision: str | None = None) -> str:
    """Return what makes a checkpoint's content unique: the Hub's commit; of local weights the sha256.

    Args:
        name: A folder, a Hub id or an `embedded:` base.
        revision: Commit, tag or branch on the Hub.

    Raises:
        ValueError: No such embedded base, or its package is missing.
        OSError: No such repository here or on the Hub.
    """
    folder = packaged_bases.resolve_base(name)
    if packaged_bases.is_embedded(name):
        return packaged_bases.BASES[name.removeprefix(packaged_bases.PREFIX)]["sha256"]
    if os.path.isdir(folder):
        return sha256_of(folder)
    return resolve_revision(name, revision) or "main"
