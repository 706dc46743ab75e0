"""Pairs become tokens in one place: cleaned and rendered by the run's template, joined by the tokenizer's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from product_relevance.data import loading
from product_relevance.data.pairs import Pairs
from product_relevance.models.heads.prompt_tokens import Answers, use_prompt
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import PairFacts, Template

CHUNK = 10_000  # pairs a call of the tokenizer


@dataclass(frozen=True)
class PairEncoder:
    """How the pairs of a run become token ids, in training, scoring and serving alike.

    Attributes:
        tokenizer: of the base; its pair template joins both sides, within the prompt where the run has one.
        template: cleans and renders both sides.
        max_length: tokens of a pair at most; the longer side loses tokens first.
        taxonomy: tree of the training paths, to read paths in the other rendering; None leaves it out.
        answers: of the prompt's yes and no; None for a classifier.
        grades: number of labels K of the run, as many as the model on these tokens has logits.
    """

    tokenizer: Any
    template: Template
    max_length: int
    taxonomy: Taxonomy | None = None
    answers: Answers | None = None
    grades: int = 2

    @classmethod
    def from_tokenizer(
        cls, tokenizer, template: Template, max_length: int, taxonomy: Taxonomy | None = None
    ) -> "PairEncoder":
        """Prepare a tokenizer for pairs, in place: the prompt of the template, or a boundary where it has none.

        Args:
            tokenizer: from `modeling.load_tokenizer`.
            template: of the run.
            max_length: tokens of a pair at most.
            taxonomy: tree of the training paths.

        Raises:
            ValueError: a prompt that does not fit the tokenizer or the length, or pairs that can get no boundary.
        """
        answers = None
        if template.prompt is not None:
            answers = use_prompt(tokenizer, template.prompt, template.task, max_length)
        require_boundary(tokenizer)
        return cls(tokenizer, template, max_length, taxonomy, answers)

    @property
    def pad_id(self) -> int:
        """The pad token."""
        return self.tokenizer.pad_token_id

    def encode(self, pairs: Pairs, tasks: Sequence[str] | None = None) -> list[list[int]]:
        """Tokenise raw pairs.

        Args:
            pairs: n pairs, see `pairs.read_pairs`.
            tasks: n times QC or QI; needed by a template of both.

        Returns:
            n lists of token ids.

        Raises:
            ValueError: see `Template.render`.
        """
        queries, targets, languages, translations = pairs
        codes, needed = None, self.template.language_tag
        if languages is not None:  # a pair without a code is an error of `render` where codes are read
            codes = [code or "" for code in languages if code or not needed]
        rendered = self.template.render(queries, targets, PairFacts(codes, translations, tasks), self.taxonomy)
        return self._tokenise(*rendered)

    def encode_frame(self, frame: pd.DataFrame) -> list[list[int]]:
        """Tokenise the n records of a frame with the columns of `loading.add_all_columns`, whose texts are clean."""
        return self._tokenise(*loading.render_frame(frame, self.template, self.taxonomy))

    def _tokenise(self, texts: Sequence[str], targets: Sequence[str]) -> list[list[int]]:
        return _tokenised(self.tokenizer, texts, targets, self.max_length)


def encode_pairs(tokenizer, texts: Sequence[str], targets: Sequence[str], max_length: int) -> list[list[int]]:
    """Tokenise pairs that are rendered already, with any tokenizer.

    Args:
        tokenizer: of the base; it gets a boundary between the sides where it has none.
        texts: first sides, n strings.
        targets: second sides, n strings.
        max_length: tokens of a pair at most; the longer side loses tokens first.

    Returns:
        n lists of token ids.
    """
    require_boundary(tokenizer)
    return _tokenised(tokenizer, texts, targets, max_length)


def _tokenised(tokenizer, texts: Sequence[str], targets: Sequence[str], max_length: int) -> list[list[int]]:
    if len(texts) != len(targets):
        raise ValueError(f"{len(texts)} first texts but {len(targets)} second texts")
    ids: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        part = slice(start, start + CHUNK)
        ids += tokenizer(
            list(texts[part]),
            list(targets[part]),
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        )["input_ids"]
    return ids


def require_boundary(tokenizer) -> None:
    """Write a newline into a pair template that puts nothing between the sides (Qwen): two words would become one.

    A saved copy of the tokenizer then joins pairs alike.

    Raises:
        ValueError: a slow tokenizer, whose pairs can get no boundary.
    """
    if _joins_without_boundary(tokenizer):
        _put_newline_between(tokenizer)


def _joins_without_boundary(tokenizer) -> bool:
    """Return whether the pair template puts nothing between the sides."""
    plain = (
        tokenizer("a", add_special_tokens=False)["input_ids"] + tokenizer("b", add_special_tokens=False)["input_ids"]
    )
    return tokenizer("a", "b")["input_ids"][-len(plain) :] == plain


def _put_newline_between(tokenizer) -> None:
    """Write a newline into the tokenizer's own pair template, so that a saved copy joins pairs alike."""
    from tokenizers.processors import TemplateProcessing

    if not tokenizer.is_fast:
        raise ValueError(f"{tokenizer.name_or_path}: pairs have no boundary, and only fast tokenizers can get one")
    single, pair = tokenizer("a")["input_ids"], tokenizer("a", "b")["input_ids"]
    one, two = (len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in "ab")
    start = pair[: len(pair) - one - two]
    added = {"start": start, "end": single[len(start) + one :]}
    added["newline"] = tokenizer("\n", add_special_tokens=False)["input_ids"]
    known = {name: ids for name, ids in added.items() if ids}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[part for part in ("start", "$A", "end") if part in known or part == "$A"],
        pair=[part for part in ("start", "$A", "newline", "$B") if part in known or part[0] == "$"],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in known.items()
        ],
    )
