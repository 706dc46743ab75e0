"""Translation models through CTranslate2: converted once into the user's cache, then run with equal output."""

import logging
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from product_relevance.models.loading.checkpoints import Checkpoint
from product_relevance.utils.files import cache_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    Load = Callable[[str, str], PreTrainedModel]  # device and dtype -> the model

logger = logging.getLogger(__name__)

TYPES = ("t5", "mt5", "umt5", "m2m_100", "mbart", "marian")  # model types of translation that CTranslate2 knows


class Converted:
    """A converted model with the interface of `seq2seq`'s plain generator on lists of ids.

    Args:
        load: `load(device, dtype)` gives the transformers model; called only where it was not converted before.
        checkpoint: Where the model comes from.
        device: cpu, cuda, cuda:1.
        dtype: CTranslate2's compute type; the weights are stored in it too.
        no_repeat_ngram: No n-gram of tokens of this length comes twice.

    Raises:
        ValueError: CTranslate2 cannot convert the model, or has no such compute type on this device.
    """

    def __init__(
        self,
        load: "Load",
        checkpoint: Checkpoint,
        device: str,
        dtype: str,
        no_repeat_ngram: int,
    ):
        import ctranslate2

        self.no_repeat_ngram = no_repeat_ngram
        folder = _converted(load, checkpoint, dtype)
        kind, _, index = device.partition(":")
        try:
            self.model = ctranslate2.Translator(folder, device=kind, device_index=int(index or 0), compute_type=dtype)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{checkpoint.name}: ctranslate2 with {dtype} on {device}: {error}") from None

    def generate(self, ids: list[list[int]], starts: list[list[int]], limit: int) -> list[list[int]]:
        """Continue `starts` greedily by at most `limit` tokens per row."""
        prefixes = [list(map(str, start[1:])) for start in starts]  # the start token itself is in the model's config
        found = self.model.translate_batch(
            [list(map(str, row)) for row in ids],
            target_prefix=prefixes if any(prefixes) else None,
            beam_size=1,
            no_repeat_ngram_size=self.no_repeat_ngram,
            max_input_length=0,
            max_decoding_length=limit + len(prefixes[0]),
        )
        made = zip(found, prefixes, strict=True)
        return [list(map(int, one.hypotheses[0][len(prefix) :])) for one, prefix in made]


class _Names:
    """What the converter asks of a tokenizer, with each id as the name of its token.

    Real names would have to be unique and complete: with transformers 5 those of M2M100 lack the languages.
    """

    special_tokens_map: dict[str, str] = {}

    def __init__(self, config: "PretrainedConfig"):
        self.names = [str(i) for i in range(config.vocab_size)]
        if config.model_type == "marian":
            self.names[-1] = "<pad>"  # by this name the converter drops it: it is never generated
        self.eos_token, self.pad_token = self.names[config.eos_token_id], self.names[config.pad_token_id]
        self.unk_token = self.bos_token = self.eos_token  # asked for, but of no effect on a list of ids

    def get_vocab(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def convert_ids_to_tokens(self, i: int) -> str:
        return self.names[i]


def _converted(load: "Load", checkpoint: Checkpoint, dtype: str) -> str:
    """Convert in a temporary folder and rename, so that a killed or parallel start leaves no half folder."""
    import ctranslate2

    key = f"{checkpoint.identity} {ctranslate2.__version__} {dtype}"
    folder = cache_folder() / "ctranslate2" / sha256(key.encode()).hexdigest()[:16]
    if (folder / "model.bin").is_file():
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.warning("converting %s for ctranslate2 once", checkpoint.name)
    temporary = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        _convert(load("cpu", "float32"), checkpoint, temporary / "model", dtype)
        try:
            (temporary / "model").rename(folder)
        except OSError:  # another process was first: its folder holds the same bytes
            if not (folder / "model.bin").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(folder)


def _convert(model: "PreTrainedModel", checkpoint: Checkpoint, folder: Path, dtype: str) -> None:
    from ctranslate2.converters import TransformersConverter

    class OfLoaded(TransformersConverter):
        # Its own loading would read .bin files, which can run code.
        def load_model(self, *_: object, **__: object) -> "PreTrainedModel":
            return model

        def load_tokenizer(self, *_: object, **__: object) -> _Names:
            return _Names(model.config)

    if model.config.model_type == "mbart":  # the converter asks for what configs of transformers 5 have no more
        model.config.normalize_before = model.config.normalize_embedding = True
        model.config.tokenizer_class = "MBart50Tokenizer"
    converter = OfLoaded(checkpoint.folder, revision=checkpoint.revision)
    try:
        converter.convert(str(folder), quantization=None if dtype == "float32" else dtype)
    # What an unforeseen architecture lacks shows in any of these.
    except (ValueError, AttributeError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint.name}: ctranslate2 cannot convert it ({error}): take the backend transformers"
        ) from None
