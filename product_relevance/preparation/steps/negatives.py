"""The steps that add negatives: hard ones near a positive's query in meaning, easy ones far from it."""

from dataclasses import dataclass

import pandas as pd

from product_relevance.preparation.arguments import Step, StepArguments
from product_relevance.preparation.augmentation import negatives
from product_relevance.utils.options import option


@dataclass(kw_only=True)
class _WithEncoder(Step):
    encoder: str = option("embedded:e5-small", "this encoder, a sentence-transformers folder, or a Hub id")
    encoder_revision: str | None = option(None, "commit, tag or branch of the encoder on the Hub")
    prefixes: tuple[str, str] | None = option(None, 'texts before queries and before targets: "query: " "passage: "')

    def load_encoder(self) -> negatives.Encoder:
        from product_relevance.models import sentence_encoder as encoder

        prefixes = dict(zip(encoder.SIDES, self.prefixes, strict=True)) if self.prefixes else None
        return encoder.load_encoder(self.encoder, self.encoder_revision, prefixes=prefixes)


@dataclass(kw_only=True)
class HardNegatives(negatives.HardNegativeOptions, _WithEncoder):
    """Targets that are similar to a positive's query, inside a band of similarity."""

    veto: str | None = option(None, "trained run; targets that its ensemble finds relevant are not taken")

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        """Append the hard negatives of each positive."""
        veto = None
        if self.veto:
            from product_relevance.ensemble.ensemble import RelevanceEnsemble

            veto = RelevanceEnsemble.from_pretrained(self.veto)
        return negatives.mine_hard_negatives(frame, self.load_encoder(), self, arguments, veto)


@dataclass(kw_only=True)
class EasyNegatives(negatives.EasyNegativeOptions, _WithEncoder):
    """Random targets: of another first level (QC), or of low similarity (QI)."""

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        """Append the easy negatives of each positive."""
        encode = self.load_encoder() if arguments.task == "QI" else None
        return negatives.mine_easy_negatives(frame, encode, self, arguments)
