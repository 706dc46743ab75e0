"""Put the names of categories inside English queries into other languages, by a tree: code-mixed queries."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from product_relevance.data.translations import Translator
from product_relevance.preparation.augmentation.category_tree import ENGLISH, Category, read_tree
from product_relevance.text.cleaning import normalise_text
from product_relevance.text.language_codes import normal_code

logger = logging.getLogger(__name__)

Words = tuple[str, ...]

_PLURALS = (
    (re.compile("(?<=[^aeiou])ies$"), "y"),
    (re.compile("(?<=[sxz])es$|(?<=[cs]h)es$"), ""),
    (re.compile("(?<=[^su])s$"), ""),
)


@dataclass(frozen=True)
class CategoryWords:
    """A dictionary of category names.

    Attributes:
        names: Language code -> words of an English name in the singular -> the name in this language.
        longest: Words of the longest English name.
    """

    names: dict[str, dict[Words, str]]
    longest: int

    @classmethod
    def from_categories(cls, categories: Sequence[Category]) -> "CategoryWords":
        """Collect the names; where categories of one English name differ in a language, the commonest name counts."""
        found: defaultdict[str, defaultdict[Words, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for category in categories:
            for english in category.names.get(ENGLISH, ()):
                for code, names in category.names.items():
                    if names and code != ENGLISH:
                        found[code][_singular(english.split())][names[0]] += 1
        best = {
            code: {words: counts.most_common(1)[0][0] for words, counts in of_code.items() if words}
            for code, of_code in found.items()
        }
        return cls(best, max((len(words) for of_code in best.values() for words in of_code), default=0))

    def translate(self, text: str, code: str) -> str | None:
        """Replace the longest names, from left to right.

        Args:
            text: An English query.
            code: The language of the names that take their place.

        Returns:
            The query in two languages, or in one if a name was all of it; None where it has no name of a category.
        """
        mixed = " ".join(self._replaced(text.split(), self.names.get(code, {})))
        mixed = mixed.lower() if text == text.lower() else mixed
        return mixed if normalise_text(mixed) != normalise_text(text) else None

    def _replaced(self, words: Sequence[str], names: dict[Words, str]) -> Iterator[str]:
        keys, place = _singular(words), 0
        while place < len(words):
            lengths = range(min(self.longest, len(words) - place), 0, -1)
            length = next((length for length in lengths if keys[place : place + length] in names), 0)
            yield names[keys[place : place + length]] if length else words[place]
            place += length or 1


def from_tree(file: str) -> Translator:
    """Make a translator that puts category names into another language and leaves the other words as they are.

    Args:
        file: A table of categories with a column per language, as `read_tree` reads it.

    Returns:
        The translator for `add_languages`; it answers None for a text without a name, and for a language that the
        tree lacks.

    Raises:
        RecordError: The file cannot be read or has a bad line.
    """
    known = CategoryWords.from_categories(read_tree([file], ()))
    logger.info("%s: names in %s", file, ", ".join(sorted(known.names)))

    def translate(texts: list[str], codes: list[str]) -> list[str | None]:
        wanted = [normal_code(code) for code in codes]
        if missing := sorted(set(wanted) - set(known.names)):
            logger.warning("%s: no names in %s: no row is made in these languages", file, ", ".join(missing))
        return [known.translate(text, code) for text, code in zip(texts, wanted, strict=True)]

    return translate


def _singular(words: Sequence[str]) -> Words:
    return tuple(_of_word(normalise_text(word)) for word in words)


def _of_word(word: str) -> str:
    if len(word) > 3:
        for plural, ending in _PLURALS:
            if plural.search(word):
                return plural.sub(ending, word)
    return word
