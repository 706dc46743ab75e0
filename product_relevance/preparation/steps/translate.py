"""The step that translates queries into English."""

from dataclasses import dataclass

from product_relevance.data.translations import Translator
from product_relevance.models.loading.checkpoints import asked_dtype
from product_relevance.preparation.translation import translator as translators
from product_relevance.utils.options import option, required


@dataclass(kw_only=True)
class _WithModel:
    engine: str = required("kind of translator; llm: any causal model, by examples", [*translators.ENGINES, "none"])
    model: str | None = option(None, "the translator: Hub id, folder, embedded:gemma-3-270m; for table its path")


@dataclass(kw_only=True)
class Translate(translators.TranslatorOptions, _WithModel):
    """English translations of the queries, by an engine."""

    def __post_init__(self) -> None:
        translators.check_engine(self.engine, self.model)
        super().__post_init__()
        self.dtype = asked_dtype(self.dtype)

    def load(self, from_english: bool = False) -> Translator:
        """Return the translator into English, or from it."""
        return translators.load_translator(self.engine, self.model, self, from_english=from_english)
