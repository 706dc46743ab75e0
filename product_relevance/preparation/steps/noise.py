"""The step that adds noisy variants of queries."""

from dataclasses import dataclass

import pandas as pd

from product_relevance.preparation.arguments import Step, StepArguments
from product_relevance.preparation.augmentation import noise
from product_relevance.utils.options import option


@dataclass(kw_only=True)
class Noise(Step):
    """Typing errors, lost accents, shortened and mixed words."""

    rate: float = option(0.1, "share of the rows that get a variant")
    kinds: list[str] = option([], "kinds of noise; all by default")
    seed: int = option(42, "another seed draws other rows and places")

    def __post_init__(self) -> None:
        noise.check_noise_options(self.rate, self.kinds)

    def __call__(self, frame: pd.DataFrame, arguments: StepArguments) -> pd.DataFrame:
        return noise.add_noise(frame, self.rate, self.kinds or None, lowercase=arguments.lowercase, seed=self.seed)
