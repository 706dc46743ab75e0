"""Find faults of a machine translation in its text alone."""

import re
import unicodedata

from product_relevance.text.languages import MIN_EVIDENCE, identify_with_evidence

# In the order in which they are looked for; a translation is counted under the first that applies.
FAULTS = {
    "empty": "no text",
    "copied_prompt": "words of the prompt or of its examples",
    "repeated": "the same words again and again",
    "too_long": "far longer than the text",
    "too_short": "far shorter than the text",
    "lost_number": "a number or model code of the text is missing",
    "not_english": "language identification says with confidence that it is another language",
}
_WORDS = {
    "1": ("one", "single", "first"), "2": ("two", "double", "second"), "3": ("three", "triple", "third"),
    "4": ("four",), "5": ("five",), "6": ("six",), "7": ("seven",), "8": ("eight",), "9": ("nine",), "10": ("ten",),
    "11": ("eleven",), "12": ("twelve", "dozen"),
}  # fmt: skip
_CODE = re.compile(r"[a-z]+\d+[a-z0-9]*")
_REPEATED_LETTERS = re.compile(r"(..{0,9}?)\1{3,}")


def find_fault(
    text: str,
    translation: str | None,
    target: str = "en",
    marks: tuple[str, ...] = (),
    answers: frozenset[str] = frozenset(),
) -> str | None:
    """Find what is wrong with a translation.

    Args:
        text: What was translated.
        translation: What came out.
        target: The language asked for.
        marks: Lower-case parts of the prompt that no translation holds, as "english:".
        answers: The prompt's own examples.

    Returns:
        A key of FAULTS, or None for one that looks right. Lengths are absurd above 3 characters a byte of the text
        plus 24, and below a twelfth of a character a byte: in UTF-8 a short CJK text has as many bytes as its
        English has letters.
    """
    if not translation or not any(c.isalnum() for c in translation) and any(c.isalnum() for c in text):
        return "empty"
    size = len(text.encode("utf-8", "replace"))
    found = {
        "copied_prompt": lambda: is_copied(text, translation, marks, answers),
        "repeated": lambda: is_repetitive(translation) and not is_repetitive(text),
        "too_long": lambda: len(translation) > 3 * size + 24,
        "too_short": lambda: 12 * len(translation) < size,
        "lost_number": lambda: bool(lost_numbers(text, translation)),
        "not_english": lambda: target == "en" and evidence_against_english(translation) >= MIN_EVIDENCE,
    }
    return next((fault for fault, check in found.items() if check()), None)


def evidence_against_english(text: str) -> float:
    """Return by how many nats another language is likelier than English; infinite where the script rules it out."""
    # Each word once: evidence adds up over letters, and a brand's name three times must not count three times.
    return identify_with_evidence([" ".join(dict.fromkeys(text.split()))])[0][1]


def lost_numbers(text: str, translation: str) -> list[str]:
    """List the numbers and model codes of a text that its translation lacks.

    Numbers are compared as digits, whatever their script and separators (`1.5` and `1,5`); those up to 12 may be
    words. A model code is letters, then digits (`rtx4090`, `sm-g973f`), and may come back with blanks inside.

    Args:
        text: What was translated.
        translation: What came out.

    Returns:
        The lost ones, as they are compared.
    """
    if not has_numbers(text):
        return []
    text, translation = _plain(text), _plain(translation)
    there, words, squeezed = set(_numbers(translation)), set(re.findall(r"\w+", translation)), _squeeze(translation)
    lost = [n for n in _numbers(text) if n not in there and not words.intersection(_WORDS.get(n, ()))]
    return lost + [code for code in _codes(text) if code not in squeezed]


def has_numbers(text: str) -> bool:
    """Return whether a text has a number or a model code."""
    return any(c.isdecimal() for c in unicodedata.normalize("NFKC", text))


def is_repetitive(text: str) -> bool:
    """Return whether words or letters repeat: one to four words, or two to ten letters, three times in
    a row (letters: four times), or fewer than half of eight or more words distinct."""
    words = text.casefold().split()
    for n in (1, 2, 3, 4):
        for i in range(len(words) - 3 * n + 1):
            if words[i : i + n] == words[i + n : i + 2 * n] == words[i + 2 * n : i + 3 * n]:
                return True
    if len(words) >= 8 and 2 * len(set(words)) < len(words):
        return True
    return any(any(c.isalpha() for c in found[1]) for found in _REPEATED_LETTERS.finditer(text.casefold()))


def is_copied(text: str, translation: str, marks: tuple[str, ...], answers: frozenset[str]) -> bool:
    """Return whether a translation repeats its prompt: a mark of it, or three words in a row of an example.

    Words that the text itself has (brands, codes) are no evidence.
    """
    said, asked = translation.casefold(), text.casefold()
    if any(mark in said and mark not in asked for mark in marks):
        return True
    known = set(asked.split())
    examples = {run for answer in answers for run in _runs(answer.casefold())}
    return any(run in examples and not known.intersection(run) for run in _runs(said))


def _runs(text: str) -> list[tuple[str, ...]]:
    # Examples of three words or fewer, and those without blanks, count as a whole.
    words = tuple(text.split())
    return [words[i : i + 3] for i in range(max(1, len(words) - 2))] if words else []


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return re.sub(r"(?<=\d)[.,٫٬](?=\d)", "", text)


def _numbers(text: str) -> list[str]:
    return [run.lstrip("0") or "0" for run in re.findall(r"\d+", text)]


def _codes(text: str) -> list[str]:
    words = (word for word in re.findall(r"\w+(?:[-_/.]\w+)*", text) if word.isascii())
    return [code for code in map(_squeeze, words) if _CODE.fullmatch(code)]


def _squeeze(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)
