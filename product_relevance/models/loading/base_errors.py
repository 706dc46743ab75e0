"""Explain in one line why a base cannot be used, and what to do."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from product_relevance.models.loading.safetensors_files import read_header
from product_relevance.utils.json_files import check_plain

# A token that stands beside every text must have a row in the embedding; others of the special ones never come.
ROLES = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "unk_token_id")
PLAIN_TEXT = "red shoes 42"


class UnusableBaseError(ValueError):
    """A base that cannot be used."""

    def __init__(self, name: str, reason: str, way_out: str):
        super().__init__(f"{name}: this base cannot be used because {reason}; {way_out}")


def check_folder(name: str, folder: str) -> None:
    """Check by its files that a folder holds a model of its own; what is no folder is left to the Hub.

    Args:
        name: as the user gave it.
        folder: where it is loaded from.

    Raises:
        UnusableBaseError: no such folder, an adapter, a run of this package, or no config.
    """
    path = Path(folder)
    if not path.is_dir():
        if path.is_absolute() or folder.startswith(("./", "../", "~")) or folder.count("/") > 1:
            raise UnusableBaseError(name, "there is no such folder", "give a folder, or a Hub id as org/name")
        return
    for file in ("run.json", "ensemble.json"):
        if (path / file).is_file():
            raise UnusableBaseError(name, f"it is a finished run, by its {file}", "give the base that is named in it")
    if (path / "adapter_config.json").is_file():
        _refuse_adapter(name, _base_of_adapter(path / "adapter_config.json"))
    if not (path / "config.json").is_file():
        way_out = "give the folder that save_pretrained or hf download filled"
        raise UnusableBaseError(name, "there is no config.json in it", way_out)
    _check_whole(name, path)


def _check_whole(name: str, folder: Path) -> None:
    """Name the file that is a Git LFS pointer, or safetensors that are incomplete; the libraries name neither."""
    for file in sorted(folder.iterdir()):
        part = {".safetensors": "weights", ".json": "files", ".model": "files"}.get(file.suffix)
        try:
            if part:
                read_header(file) if part == "weights" else check_plain(file)
        except ValueError as error:
            raise UnusableBaseError(name, f"its {part} cannot be read: {error}", "download it again") from None


def check_model(name: str, model) -> None:
    """Raise UnusableBaseError if transformers has put an adapter on a model, as it does where a repository holds one.

    Raises:
        UnusableBaseError: it carries one.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        _refuse_adapter(name, None)


def check_tokens(name: str, tokenizer, config) -> None:
    """Check that a tokenizer belongs to its base: it reads a text, into tokens that the embedding has rows for.

    Raises:
        UnusableBaseError: it has no vocabulary, or a token that a text can hold is beyond the last row.
    """
    with explain_errors(name, "tokenizer"):
        ids = set(tokenizer(PLAIN_TEXT, add_special_tokens=False)["input_ids"])
    if ids <= {tokenizer.unk_token_id}:
        way_out = "put its tokenizer.json, or the vocabulary that its tokenizer is made from, beside the weights"
        raise UnusableBaseError(name, f"its tokenizer reads nothing in {PLAIN_TEXT!r}", way_out)
    rows = getattr(config, "vocab_size", None)
    known = {id: token for token, id in tokenizer.get_vocab().items()}
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= {getattr(tokenizer, role) for role in ROLES}
    beyond = sorted(id for id in known if rows is not None and id >= rows and id not in special)
    if beyond:
        raise UnusableBaseError(
            name,
            f"its tokenizer has {len(beyond)} tokens beyond the {rows} rows of its embedding, as {known[beyond[0]]!r}",
            "take the tokenizer that it was trained with, or call resize_token_embeddings and save the model again",
        )


@contextmanager
def explain_errors(name: str, part: str) -> Iterator[None]:
    """Give what goes wrong while a part of a base is opened as one line with the way out.

    Args:
        name: of the base, as the user gave it.
        part: config, tokenizer or weights.

    Raises:
        UnusableBaseError: for whatever the libraries raise.
    """
    from safetensors import SafetensorError

    kinds = (OSError, ImportError, ValueError, KeyError, RuntimeError, SafetensorError)
    try:
        yield
    except UnusableBaseError:
        raise
    except Exception as error:
        if not isinstance(error, kinds) and part != "tokenizer":  # the tokenizers library raises plain Exception
            raise
        raise UnusableBaseError(name, *_reason(name, part, error)) from None


def _reason(name: str, part: str, error: Exception) -> tuple[str, str]:
    """Return why, and what to do."""
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    folder = Path(name)
    if "trust_remote_code" in str(error) or "auto_map" in str(error):
        return _code_reason(name)
    if unknown := re.search("model type `(.*?)` but Transformers does not recognize", str(error)):
        return (
            f"transformers {version('transformers')} has no architecture {unknown.group(1)!r}",
            "take another base, or a transformers that has it",
        )
    if part == "tokenizer":
        return _tokenizer_reason(error, reason)
    if part == "weights" and type(error).__name__ == "SafetensorError":
        return f"its weights cannot be read: {reason}", "a file is incomplete, or a Git LFS pointer: download it again"
    if part == "weights" and isinstance(error, OSError):
        return _weights_reason(folder, reason)
    if isinstance(error, OSError) and not folder.is_dir():
        return f"its {part} cannot be had: {reason}", "check the name, HF_TOKEN and the network, or give a folder"
    return f"its {part} cannot be read: {reason}", "check its files"


def _tokenizer_reason(error: Exception, reason: str) -> tuple[str, str]:
    if isinstance(error, ImportError):
        return f"its tokenizer needs a package: {reason}", "install it, or save the tokenizer once as tokenizer.json"
    if "sentencepiece" in str(error):
        return (
            "there is no tokenizer.json, and no vocabulary that one can be made from with the packages here",
            "save the tokenizer once as tokenizer.json, or: pip install sentencepiece tiktoken protobuf",
        )
    return f"its tokenizer cannot be loaded: {reason}", "check its tokenizer files"


def _weights_reason(folder: Path, reason: str) -> tuple[str, str]:
    pickled = sorted(file.name for file in folder.glob("*.bin")) if folder.is_dir() else []
    return (
        f"its weights are pickled ({pickled[0]}), which may run code" if pickled else f"it has no weights: {reason}",
        "expected safetensors: load it once where you trust it and call save_pretrained; on the Hub, many "
        "repositories have them at revision refs/pr/N",
    )


def _code_reason(name: str) -> tuple[str, str]:
    native = NATIVE.get(name, "")
    return (
        "its config has auto_map, code from the repository, and this package runs none",
        f"take {native}, the same weights without code" if native else "take a base that transformers has itself",
    )


# Repositories that ask for code, and the same weights under a class of transformers' own.
NATIVE = {
    f"Alibaba-NLP/{model}": f"alibaba-nlp-community/{model}"
    for model in ("gte-multilingual-reranker-base", "gte-multilingual-base", "gte-multilingual-mlm-base")
}


def refuse_code(name: str, config) -> None:
    """Raise UnusableBaseError if a config asks for code from its repository.

    Raises:
        UnusableBaseError: It has `auto_map`.
    """
    if getattr(config, "auto_map", None):
        raise UnusableBaseError(name, *_code_reason(name))


def _refuse_adapter(name: str, base: str | None) -> None:
    reason = "an adapter, which needs a base of its own" if base is None else f"an adapter on {base}"
    raise UnusableBaseError(
        name,
        f"it is {reason}",
        "give its base, or save the two merged as one model",
    )


def _base_of_adapter(file: Path) -> str | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return os.path.basename(base) if isinstance(base, str) and os.path.isabs(base) else base
