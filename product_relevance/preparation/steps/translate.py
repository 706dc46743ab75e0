"""The step that translates queries into English."""

from dataclasses import dataclass, fields

from product_relevance.data.translations import Translator
from product_relevance.models.loading.checkpoints import asked_dtype
from product_relevance.preparation.translation import translator as translators
from product_relevance.utils.options import option, required


@dataclass(kw_only=True)
class Translate:
    """English translations of the queries, by an engine."""

    engine: str = required("kind of translator; llm: any causal model, by examples", [*translators.ENGINES, "none"])
    model: str | None = option(None, "the translator: Hub id, folder, embedded:gemma-3-270m; for table its path")
    revision: str | None = option(None, "commit, tag or branch of the model on the Hub")
    skip: list[str] = option(["english", "codes"], "texts that stay as they are: english, codes")
    batch_size: int | None = option(None, "texts at a time; by default it depends on the engine")
    backend: str = option("auto", "seq2seq: library that runs it", ["auto", "ctranslate2", "transformers"])
    dtype: str = option("auto", "precision: auto, float32, bfloat16; with ctranslate2 also int8")
    device: str | None = option(None, "cpu, cuda, cuda:1; by default a GPU if there is one")

    def __post_init__(self) -> None:
        translators.check_options(self.engine, self.model, self.skip)
        self.dtype = asked_dtype(self.dtype)

    def load(self, from_english: bool = False) -> Translator:
        """Return the translator into English, or from it."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return translators.load_translator(**options, from_english=from_english)
