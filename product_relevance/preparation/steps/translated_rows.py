"""The steps that add translated queries: into languages that the rows lack, or from English back."""

from dataclasses import dataclass

import pandas as pd

from product_relevance.data.translations import Translator
from product_relevance.preparation.arguments import Step, StepArguments
from product_relevance.preparation.augmentation import category_words, translated_rows
from product_relevance.preparation.translation import translator as translators
from product_relevance.text.language_codes import normal_code
from product_relevance.utils.options import option, required


@dataclass(kw_only=True)
class _FromEnglish(Step):
    engine: str = required(
        "kind of translator; llm: any causal model, by examples; tree: only names of categories, by a tree of them",
        [*translators.ENGINES, "tree"],
    )
    model: str = required(
        "Hub id, folder, embedded:gemma-3-270m; or a table: query, language (into which), translation; or a tree"
    )
    revision: str | None = option(None, "commit, tag or branch of the model on the Hub")
    share: float = option(0.1, "rows to add per language, as a share of the originals")
    seed: int = option(42, "another seed takes other rows")

    def translator(self) -> Translator:
        if self.engine == "table":
            return translated_rows.from_language_table(self.model)
        if self.engine == "tree":
            return category_words.from_tree(self.model)
        options = translators.TranslatorOptions(revision=self.revision)
        return translators.load_translator(self.engine, self.model, options, from_english=True)


@dataclass(kw_only=True)
class Languages(_FromEnglish):
    """Queries translated into languages that the rows lack."""

    languages: list[str] = option([], "languages to translate into: CODE or CODE=SHARE")
    like: str | None = option(None, "records; translate into the languages that they have and the file lacks")
    cap: int | None = option(None, "rows per language at most")
    text: str = option("english", "text to translate: the English one, or the query", ["english", "query"])

    def __post_init__(self) -> None:
        if bool(self.languages) == bool(self.like):
            raise ValueError("give either languages or like: which languages to translate into")
        translated_rows.LanguageOptions({"a language": self.share} | self._given(), self.text, self.cap)

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        options = translated_rows.LanguageOptions(
            self._shares(frame, arguments.task),
            self.text,
            self.cap,
            lowercase=arguments.lowercase,
            seed=self.seed,
        )
        return translated_rows.add_languages(frame, self.translator(), options)

    def _given(self) -> dict[str, float]:
        pairs = [word.partition("=") for word in self.languages]
        try:
            return {normal_code(code): float(share) if share else self.share for code, _, share in pairs}
        except ValueError:
            found = " ".join(self.languages)
            raise ValueError(f"languages: found {found}, expected codes, or as de=0.1") from None

    def _shares(self, frame: pd.DataFrame, task: str) -> dict[str, float]:
        from product_relevance.data.records import read_records

        if not self.like:
            return self._given()
        other = read_records(self.like, task=task, role="test", on_bad_rows="skip")
        return dict.fromkeys(translated_rows.missing_languages(frame, other), self.share)


@dataclass(kw_only=True)
class Back(_FromEnglish):
    """Queries translated from English back into their language."""

    pivot: str | None = option(None, "language that English queries are translated to and back from")
    into_english: str | None = option(None, "model of the same engine that translates the pivot into English")

    def __post_init__(self) -> None:
        self.pivot = self.pivot and normal_code(self.pivot)
        translated_rows.BackOptions(self.share, self.pivot)
        if bool(self.pivot) != bool(self.into_english):
            raise ValueError("give both pivot and into_english, or none: English queries go through another language")

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        back = translators.load_translator(self.engine, self.into_english) if self.into_english else None
        options = translated_rows.BackOptions(self.share, self.pivot, lowercase=arguments.lowercase, seed=self.seed)
        return translated_rows.add_back_translations(frame, self.translator(), options, back)
