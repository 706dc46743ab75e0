"""The steps that add negatives: hard ones near a positive's query in meaning, easy ones far from it."""

from dataclasses import dataclass

import pandas as pd

from product_relevance.preparation.arguments import Step, StepArguments
from product_relevance.preparation.augmentation import negative_candidates, negatives
from product_relevance.utils.options import option


@dataclass(kw_only=True)
class _Negatives(Step):
    unit: str = option("similarity", "unit of the limits", ["similarity", "quantile"])
    per_positive: int = option(1, "negatives per positive at most")
    negative_share: float | None = option(None, "stop at this share of negatives in each language")
    max_targets: int = option(20_000, "targets to take negatives from")
    encoder: str = option("embedded:e5-small", "this encoder, a sentence-transformers folder, or a Hub id")
    encoder_revision: str | None = option(None, "commit, tag or branch of the encoder on the Hub")
    prefixes: tuple[str, str] | None = option(None, 'texts before queries and before targets: "query: " "passage: "')
    seed: int = option(42, "another seed draws other negatives")

    def __post_init__(self) -> None:
        self.plan("query", 2)

    def plan(self, group_by: str, prefix_levels: int) -> negative_candidates.Plan:
        shared = {name: getattr(self, name) for name in ("per_positive", "negative_share", "max_targets", "seed")}
        return negative_candidates.Plan(group_by=group_by, prefix_levels=prefix_levels, **shared)

    def load_encoder(self):
        from product_relevance.preparation.augmentation import sentence_encoder as encoder

        prefixes = dict(zip(encoder.SIDES, self.prefixes, strict=True)) if self.prefixes else None
        return encoder.load_encoder(self.encoder, self.encoder_revision, prefixes=prefixes)


@dataclass(kw_only=True)
class HardNegatives(_Negatives):
    """Targets that are similar to a positive's query, inside a band of similarity."""

    band: tuple[float, float] | None = option(None, "similarities of query and negative; by default e5's for the task")
    margin: float = option(0.01, "how much less similar than the positive a negative must be; -1: any")
    pool: int = option(20, "draw among so many of the nearest targets in the band; 1: take the nearest")
    veto: str | None = option(None, "trained run; targets that its ensemble finds relevant are not taken")
    veto_limit: float = option(0.5, "probability above which the ensemble of veto finds a target relevant")
    relatives: bool = option(False, "allow ancestors and descendants of positives (QC)")

    def __post_init__(self) -> None:
        super().__post_init__()
        negatives.check_limits(self.band or (), self.unit)
        if self.pool < 1:
            raise ValueError(f"pool: found {self.pool}, expected at least 1 target to draw among")

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        veto = None
        if self.veto:
            from product_relevance.ensemble.ensemble import RelevanceEnsemble

            veto = RelevanceEnsemble.from_pretrained(self.veto)
        options = {name: getattr(self, name) for name in ("band", "unit", "pool", "veto_limit", "relatives")}
        options |= {"veto": veto, "margin": None if self.margin < 0 else self.margin}
        plan = self.plan(arguments.group_by, arguments.prefix_levels)
        return negatives.mine_hard_negatives(frame, self.load_encoder(), plan, **options)


@dataclass(kw_only=True)
class EasyNegatives(_Negatives):
    """Random targets: of another first level (QC), or of low similarity (QI)."""

    max_similarity: float = option(negatives.EASY_BELOW, "highest similarity of query and negative (QI)")

    def __post_init__(self) -> None:
        super().__post_init__()
        negatives.check_limits((self.max_similarity,), self.unit)

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        encode = self.load_encoder() if arguments.task == "QI" else None
        plan = self.plan(arguments.group_by, arguments.prefix_levels)
        limits = {"max_similarity": self.max_similarity, "unit": self.unit}
        return negatives.mine_easy_negatives(frame, encode, plan, **limits)
