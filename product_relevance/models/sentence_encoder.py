"""Sentence vectors of queries and targets: embedded e5 or a sentence-transformers model, each text encoded once."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save

from product_relevance.models import modeling
from product_relevance.models.batching import MAX_ROWS, MAX_TOKENS, budget_batches, pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.pooling import masked_mean
from product_relevance.models.loading import packaged_bases
from product_relevance.models.loading.base_errors import explain_errors
from product_relevance.models.loading.checkpoints import choose_device
from product_relevance.utils import console
from product_relevance.utils.files import atomic_write, cache_folder, sha256_of

logger = logging.getLogger(__name__)

SIDES = ("query", "passage")
E5 = "embedded:e5-small"
E5_PREFIXES = {"query": "query: ", "passage": "passage: "}  # e5 was trained with them (arXiv 2402.05672)
MAX_LENGTH = 128  # tokens; a longer text is known by its beginning
SHARD_ROWS = 16_384  # texts encoded before they are on disk: about two minutes of e5 on one core

# An encoder gets texts and the side that they are on; it returns unit vectors, float32 (texts, dimensions).
Encoder = Callable[[Sequence[str], str], np.ndarray]


def load_encoder(
    name: str = E5,
    revision: str | None = None,
    *,
    prefixes: dict[str, str] | None = None,
    cache_dir: str | os.PathLike | None = None,
    device: str | None = None,
) -> Encoder:
    """Load a sentence encoder whose vectors are kept on disk.

    Args:
        name: `embedded:e5-small` (mean of the token states, as e5 was trained), or a folder or Hub id of a
            sentence-transformers model, which brings its own pooling.
        revision: Of a Hub id.
        prefixes: What to write before a text of each side ("query", "passage"); None takes e5's for the embedded e5
            and the model's own prompts for others. An e5 from the Hub has none of its own: give them.
        cache_dir: Folder of the vectors, found by text, side, prefixes and weights; below HF_HOME if None.
        device: "cpu", "cuda"; a GPU when there is one if None.

    Returns:
        The encoder; each text is encoded once, whatever the order or number of its occurrences.

    Raises:
        ValueError: No such embedded base, or sentence-transformers is not installed.
    """
    device = choose_device(device)
    if packaged_bases.is_embedded(name):
        encode, weights = _load_mean_pooled(name, prefixes or E5_PREFIXES, device)
    else:
        encode, weights = _load_sentence_transformer(name, revision, prefixes, device)
    asked = f"{weights} {sorted(prefixes.items()) if prefixes else None} {MAX_LENGTH}"
    folder = Path(cache_dir or cache_folder() / "vectors") / hashlib.sha256(asked.encode()).hexdigest()[:24]
    return cached(encode, folder)


def cached(encode: Encoder, folder: str | os.PathLike) -> Encoder:
    """Wrap an encoder so that it sees each distinct text once, also over runs and after a kill.

    Args:
        encode: The encoder.
        folder: Of this encoder alone. Holds files of vectors named by side and sha256; no text can be read from them.

    Returns:
        The encoder with a memory; a damaged file is deleted with a warning, and its texts are encoded again.
    """
    folder = Path(folder)

    def look_up(texts: Sequence[str], side: str) -> np.ndarray:
        if side not in SIDES:
            raise ValueError(f"side: found {side!r}, expected one of {', '.join(SIDES)}")
        if not len(texts):
            return np.zeros((0, 1), np.float32)
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        vectors = _complete(encode, distinct, side, folder)
        place = {text: i for i, text in enumerate(distinct)}
        return vectors[[place[text] for text in texts]]

    return look_up


def _complete(encode: Encoder, texts: list[str], side: str, folder: Path) -> np.ndarray:
    """Gather the vectors of distinct texts from the files, and of the others from the encoder."""
    keys = [_key(text, side) for text in texts]
    place = {key: i for i, key in enumerate(keys)}
    vectors: np.ndarray | None = None
    for known, found in _shards(folder, side):
        vectors = np.empty((len(texts), found.shape[1]), np.float32) if vectors is None else vectors
        pairs = [(place.pop(key), row) for row, key in enumerate(known) if key in place]
        if pairs:
            here, there = map(list, zip(*pairs, strict=True))
            vectors[here] = found[there]
    missing = sorted(place.values())
    parts = range(0, len(missing), SHARD_ROWS)
    for start in console.progress_bar(parts, desc=f"encoding {side}", shown=len(missing) >= SHARD_ROWS):
        part = missing[start : start + SHARD_ROWS]
        found = encode([texts[i] for i in part], side)
        _write(folder, side, [keys[i] for i in part], found)
        vectors = np.empty((len(texts), found.shape[1]), np.float32) if vectors is None else vectors
        vectors[part] = found
    return np.zeros((0, 1), np.float32) if vectors is None else vectors


def _key(text: str, side: str) -> bytes:
    return hashlib.sha256(f"{side}\x1f{text}".encode("utf-8", "surrogatepass")).digest()[:16]


def _shards(folder: Path, side: str) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Yield the keys and vectors of every file of a side that is whole: few queries read no catalogue."""
    for path in sorted(folder.glob(f"{side}-*.safetensors")):
        try:
            if path.stem != f"{side}-{sha256_of(path)}":
                raise ValueError("its content is not what was written")
            shard = load(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("%s: cannot be read (%s); its texts are encoded again", path, error)
            path.unlink(missing_ok=True)
            continue
        yield list(map(bytes, shard["keys"])), shard["vectors"]


def _write(folder: Path, side: str, keys: list[bytes], vectors: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = save({"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16), "vectors": vectors})
    with atomic_write(folder / f"{side}-{hashlib.sha256(content).hexdigest()}.safetensors", "wb") as file:
        file.write(content)


def _load_mean_pooled(name: str, prefixes: dict[str, str], device: str) -> tuple[Encoder, str]:
    tokenizer = modeling.load_tokenizer(name)
    # The classifier's loader raises an error for partly random weights; its head is not used.
    model = modeling.load_classifier(name, tokenizer, ClassifierOptions(pooling="mean")).model.to(device).eval()

    def encode(texts: Sequence[str], side: str) -> np.ndarray:
        prefixed = [prefixes[side] + text for text in texts]
        ids = tokenizer(prefixed, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        vectors = np.empty((len(ids), model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for rows in budget_batches([len(row) for row in ids], MAX_TOKENS["cpu"], MAX_ROWS["cpu"]):
                batch = pad_rows([ids[i] for i in rows], tokenizer.pad_token_id)
                vectors[rows] = _mean(model, {key: value.to(device) for key, value in batch.items()}).cpu().numpy()
        return vectors

    return encode, modeling.fingerprint_weights(model)


def _mean(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    states = model(**batch).last_hidden_state
    return torch.nn.functional.normalize(masked_mean(states, batch["attention_mask"]), dim=-1)


def _load_sentence_transformer(
    name: str, revision: str | None, prefixes: dict[str, str] | None, device: str
) -> tuple[Encoder, str]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ValueError(
            f"encoder {name!r} needs sentence-transformers: pip install sentence-transformers, or use {E5}"
        ) from None
    with explain_errors(name, "config"):
        model = SentenceTransformer(
            name, revision=revision, device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )

    def encode(texts: Sequence[str], side: str) -> np.ndarray:
        kind = model.encode_query if side == "query" else model.encode_document
        prompt = None if prefixes is None else prefixes[side]  # None: the model's own
        vectors = kind(list(texts), prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    # Its text names the pooling, which shapes the vectors as the weights do.
    return encode, f"{modeling.fingerprint_weights(model)} {model} {sorted(model.prompts.items())}"
