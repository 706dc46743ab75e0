"""Words that a reader may misunderstand do not come back into code, messages, help texts, cards, recipes and docs."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

COUNTED = "tokens|pairs|rows|seconds|minutes|hours|losses|passes|targets|negatives|characters|bytes|texts|columns?"
COUNTED += "|folder"
UNITS = "fold|row|pair|query|step|request|batch|forward|shard|micro-batch"
# What may not stand in a line, with what to write there.
WORDS = {
    r"\btold\b|\b[Tt]ells?\b": "says, reports, logs, shows; a variable is a message, a reason, lines",
    r"\bfold (?:by|for) fold\b(?! in)": "one fold at a time, for each fold",
    r"\bearlier (?:run|stage|training|export)s?\b|\bEarlierRun\b": "parent run, teacher run",
    rf"\b(?:{COUNTED}) an? (?:{UNITS}|positive|text|language|core)\b(?! has| is)": "per",
    rf"\bone an? (?:line|process|{UNITS})\b": "one per",
    r"(?:own|best|chosen|stored|global|F1|macro|confidence) cuts?\b|\bcuts? (?:for|by)\b": "threshold",
    r"\b(?:at the|by the|the same|low) cuts?\b|\b(?:row|fold|fit|use|possible)_cuts\b": "threshold",
    r"\b[Ii]n bold (?:what|where|if)\b": "Bold: the 95% interval excludes zero",
    r"(?<![\w.\"'*`)\]-])[-+]?\.\d{2,3}\b": "0.667",
}
# Lines that stand as they are: signs that a text may keep at its start, of which .440 is one.
ALLOWED = {("product_relevance/text/cleaning.py", ".440")}
GLOBS = ("product_relevance/**/*.py", "dataset_scripts/*.py", "benchmarks/**/*.py", "*.py", "model_cards/*.md")
GLOBS += ("recipes/**/*.yaml", "benchmarks/studies/*.yaml", "docs/**/*.md", "docs/hooks/*.py", "*.md")


def sources() -> list[Path]:
    """Every file whose words a reader or a user meets."""
    found = {path for glob in GLOBS for path in ROOT.glob(glob)}
    return sorted(found)


@pytest.mark.parametrize("word", WORDS)
def test_words_stay_away(word):
    pattern = re.compile(word)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write: {WORDS[word]}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := pattern.search(line))
        and not any(str(path.relative_to(ROOT)) == file and text in line for file, text in ALLOWED)
    ]
    assert not found, "\n".join(found)
