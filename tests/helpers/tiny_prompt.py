"""A prompt whose answers are single tokens of the tiny tokenizer, and pairs for it."""

from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.text.prompt import Prompt
from tests.conftest import rows_of

TEXT = "Search: {query}\nEnglish: {translation}\nFound {target_kind}: {target}\nSteps:{reasoning}\nRight?\n{y/n}\n"
PROMPT = Prompt("test", TEXT)
ROWS = rows_of("train_QC.txt")[:240]
PAIRS = [(row["origin_query"], row["category_path"]) for row in ROWS]


def encoded(tokenizer, pairs=PAIRS[:24], prompt=PROMPT, max_length=96):
    """Tokenise pairs with a tokenizer that stands in a prompt."""
    sides = [prompt.sides(text, target) for text, target in pairs]
    return encode_pairs(tokenizer, *zip(*sides, strict=True), max_length)
