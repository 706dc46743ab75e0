"""Translate by machine: each distinct text once, long ones in parts, through a cache; bad output is left out."""

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from product_relevance.data.translations import Translator, keep_texts, load_translations
from product_relevance.preparation.translation.cache import Request, TranslationCache
from product_relevance.preparation.translation.checks import find_fault
from product_relevance.text.cleaning import clean_text
from product_relevance.text.language_codes import UNDETERMINED, UNKNOWN
from product_relevance.text.languages import fix_language, identify_languages
from product_relevance.utils import console
from product_relevance.utils.options import option

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)

ENGINES = ("seq2seq", "llm", "table")  # and none: each text is its own translation
SKIPS = ("english", "codes")
MAX_CHARACTERS = 256  # longer texts are translated in parts (the 1st team's, arXiv 2510.25428)
# Where a text is best split; the first kind that has a place in its middle half is taken.
_BREAKS = [
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？؟])"),
    re.compile(r"(?<=[,;:])\s+|(?<=[،؛、；：，])"),
    re.compile(r"\s+"),
]


class Outcome(NamedTuple):
    """A translation, None where there is none, and why.

    The status is `translated`; `english` or `no_words` (a number, a model code) for texts that stay as they are;
    `no_text`, `unsupported` (a language that the model lacks), or a key of `translation_checks.FAULTS`.
    """

    translation: str | None
    status: str


class Engine(Protocol):
    """A model that translates, as `seq2seq.Seq2Seq` and `few_shot.FewShot` are."""

    batch_size: int

    @property
    def prompt_marks(self) -> tuple[str, ...]:
        """What only the prompt holds, which is no part of a translation."""

    @property
    def settings(self) -> dict[str, object]:
        """What a translation depends on beside the text and the languages."""

    @property
    def prompt_answers(self) -> frozenset[str]:
        """The prompt's own texts, which are no translations."""

    def supports(self, source: str, target: str) -> bool:
        """Return whether it translates from one language into the other."""

    def translate(self, texts: list[str], sources: list[str], targets: list[str]) -> list[str]:
        """Translate one batch, with a language to translate from and one to translate into for each text."""


@dataclass(kw_only=True)
class TranslatorOptions:
    """How a model translates."""

    revision: str | None = option(None, "commit, tag or branch of the model on the Hub")
    skip: list[str] = option(["english", "codes"], "texts that stay as they are: english, codes")
    batch_size: int | None = option(None, "texts at a time; by default it depends on the engine")
    backend: str = option("auto", "seq2seq: library that runs it", ["auto", "ctranslate2", "transformers"])
    dtype: str = option("auto", "precision: auto, float32, bfloat16; with ctranslate2 also int8")
    device: str | None = option(None, "cpu, cuda, cuda:1; by default a GPU if there is one")

    def __post_init__(self) -> None:
        if unknown := set(self.skip) - set(SKIPS):
            raise ValueError(f"skip: found {', '.join(sorted(unknown))}, expected among {', '.join(SKIPS)}")


def load_translator(
    engine: str,
    model: str | None = None,
    options: TranslatorOptions | None = None,
    *,
    from_english: bool = False,
    cache_path: str | os.PathLike | None = None,
) -> Translator:
    """Make a translator into English (or from it) for `translation.add_translation`.

    `load_translator("seq2seq", "google/madlad400-3b-mt", TranslatorOptions(batch_size=64))`

    Args:
        engine: "seq2seq" (MADLAD-400, NLLB, M2M100, mBART-50, OPUS-MT), "llm" (any causal model, by examples in its
            prompt), "table" (CSV, TSV, Parquet) or "none" (each text is its own translation).
        model: Hub id, folder or `embedded:gemma-3-270m`; for "table" its path.
        options: How a model translates, and what stays as it is: "english" (what is labelled English and does not
            clearly look otherwise), "codes" (no word in them). None: the defaults.
        from_english: The languages given with the texts are those to translate English texts into.
        cache_path: The cache's file; in the user's cache by default.

    Returns:
        The translator; it answers None for a text without a usable translation.

    Raises:
        ValueError: Unknown engine, a model missing or unfit.
    """
    check_engine(engine, model)
    if engine == "none" or model is None:
        return keep_texts
    if engine == "table":
        return load_translations(model)
    options = options or TranslatorOptions()
    loaded = _load_engine(engine, model, options)
    cache = TranslationCache(loaded.settings, cache_path)
    return ModelTranslator(loaded, cache, skip=options.skip, batch_size=options.batch_size, from_english=from_english)


def check_engine(engine: str, model: str | None) -> None:
    """Raise ValueError for what `load_translator` cannot use, before anything is loaded.

    Raises:
        ValueError: Unknown engine, or no model.
    """
    if engine not in (*ENGINES, "none"):
        raise ValueError(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}, none")
    if engine != "none" and not model:
        raise ValueError(f"engine {engine} needs a model: {'a table' if engine == 'table' else 'a Hub id or folder'}")


def translate_all(translator: Translator, texts: list[str], languages: list[str]) -> list[Outcome]:
    """Run any translator and return each text's status; `missing` where a table has no translation."""
    if isinstance(translator, ModelTranslator):
        return translator.translate(texts, languages)
    found = translator(texts, languages)
    return [Outcome(text, "translated" if text and text.strip() else "missing") for text in found]


class ModelTranslator:
    """A translator that asks the cache first and the model for the rest.

    Args:
        engine: The model.
        cache: Of the engine's settings.
        skip: Texts that stay as they are, as in `TranslatorOptions`.
        batch_size: Texts at a time; the engine's when None.
        from_english: As in `load_translator`.
    """

    def __init__(
        self,
        engine: Engine,
        cache: TranslationCache,
        *,
        skip: Collection[str] = SKIPS,
        batch_size: int | None = None,
        from_english: bool = False,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: found {batch_size}, expected at least 1")
        self.engine, self.cache, self.skip, self.from_english = engine, cache, frozenset(skip), from_english
        self.batch_size = batch_size or engine.batch_size

    def __call__(self, texts: list[str], languages: list[str]) -> list[str | None]:
        """Translate texts; None for one without a usable translation."""
        return [outcome.translation for outcome in self.translate(texts, languages)]

    def translate(self, texts: list[str], languages: list[str]) -> list[Outcome]:
        """Translate texts and return the status of each.

        Args:
            texts: Any strings; each distinct one is translated once.
            languages: Their codes; or, with `from_english`, the languages to translate into.

        Returns:
            One outcome per text, in order.
        """
        pairs = list(zip(texts, languages, strict=True))
        plans = {pair: self._plan(clean_text(pair[0] or ""), pair[1]) for pair in dict.fromkeys(pairs)}
        done = self._translate({plan for plan in plans.values() if not isinstance(plan, Outcome)})
        outcomes = {pair: plan if isinstance(plan, Outcome) else done[plan] for pair, plan in plans.items()}
        counts = Counter(outcome.status for outcome in outcomes.values())
        logger.info("%d distinct texts: %s", len(plans), ", ".join(f"{name} {n}" for name, n in counts.most_common()))
        return [outcomes[pair] for pair in pairs]

    def _plan(self, text: str, code: str) -> Outcome | Request:
        if not text:
            return Outcome(None, "no_text")
        source, target = ("en", code) if self.from_english else (_source(text, code), "en")
        if source == target and (self.from_english or "english" in self.skip):
            return Outcome(text, "english")
        if "codes" in self.skip and not _has_words(text):
            return Outcome(text, "no_words")
        if not self.engine.supports(source, target):
            return Outcome(None, "unsupported")
        return text, source, target

    def _translate(self, requests: Iterable[Request]) -> dict[Request, Outcome]:
        parts = {request: [(part, *request[1:]) for part in split_text(request[0])] for request in requests}
        known = self._through_cache({part for listed in parts.values() for part in listed})
        whole = {request: " ".join(known[part] for part in listed) for request, listed in parts.items()}
        return {request: self._judged(request, translation) for request, translation in whole.items()}

    def _judged(self, request: Request, translation: str) -> Outcome:
        text, _, target = request
        found = clean_text(translation)
        fault = find_fault(text, found, target, self.engine.prompt_marks, self.engine.prompt_answers)
        return Outcome(None if fault else found, fault or "translated")

    def _through_cache(self, wanted: set[Request]) -> dict[Request, str]:
        known = self.cache.get(wanted)
        # The longest first: what does not fit into memory fails at once, and batches hold texts of about one length.
        missing = sorted(wanted - set(known), key=lambda r: (-len(r[0].encode("utf-8", "replace")), r))
        progress: tqdm[Request] = console.progress_bar(
            total=len(wanted), initial=len(known), desc="translating", unit=" texts", shown=bool(missing)
        )
        with progress as bar:
            bar.set_postfix_str(f"{len(known) / max(len(wanted), 1):.0%} from the cache")
            for start in range(0, len(missing), self.batch_size):
                batch = missing[start : start + self.batch_size]
                made = self.engine.translate(*map(list, zip(*batch, strict=True)))
                new = dict(zip(batch, made, strict=True))
                self.cache.put(new)
                known |= new
                bar.update(len(batch))
        return known


def split_text(text: str, limit: int = MAX_CHARACTERS) -> list[str]:
    """Split a long text in halves, and those again, until no part is longer than the limit.

    Each split is at the sentence end nearest to the middle, else at a clause, else at a blank, each within the middle
    half; else in the middle, but not in front of a mark that belongs to the letter before.

    Args:
        text: Any text.
        limit: Characters per part at most.

    Returns:
        The parts, without blanks at their ends; one for a short text.
    """
    text = text.strip()
    if len(text) <= limit:
        return [text]
    left, right = _halves(text)
    return [part for half in (left, right) for part in split_text(half, limit) if part]


def _halves(text: str) -> tuple[str, str]:
    middle = len(text) / 2
    for pattern in _BREAKS:
        places = [m for m in pattern.finditer(text) if middle / 2 <= m.start() <= 1.5 * middle and m.end() < len(text)]
        if places:
            best = min(places, key=lambda m: abs(m.start() - middle))
            return text[: best.start()], text[best.end() :]
    at = int(middle)
    while at < len(text) - 1 and _clings(text, at):
        at += 1
    return text[:at], text[at:]


def _clings(text: str, at: int) -> bool:
    # Accents, Thai vowels and Arabic marks, emoji variations and joined emoji.
    return unicodedata.category(text[at])[0] == "M" or "\u200d" in text[at - 1 : at + 1]


def _has_words(text: str) -> bool:
    plain = (word for word in text.split() if not any(c.isdigit() for c in word))
    # Identification takes a hundred times as long; it sees words such as the second half of `27インチ`.
    return sum(c.isalpha() for word in plain for c in word) >= 2 or identify_languages([text]) != [UNDETERMINED]


def _source(text: str, code: str) -> str:
    if code in ("", None, UNKNOWN, UNDETERMINED):
        found = identify_languages([text])[0]
        return "en" if found == UNDETERMINED else found
    return fix_language({"language": [code], "query": [text]})["language"][0]


def _load_engine(engine: str, model: str, options: TranslatorOptions) -> Engine:
    if engine == "seq2seq":
        from product_relevance.preparation.translation.seq2seq import Seq2Seq

        backend, dtype, device = options.backend, options.dtype, options.device
        return Seq2Seq(model, options.revision, backend=backend, dtype=dtype, device=device)
    from product_relevance.preparation.translation.few_shot import FewShot

    return FewShot(model, options.revision, dtype=options.dtype, device=options.device)
