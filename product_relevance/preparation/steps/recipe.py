"""The steps of a data recipe by their names, with their options checked before anything runs."""

from product_relevance.preparation.arguments import Step
from product_relevance.preparation.steps.filter import Filter
from product_relevance.preparation.steps.negatives import EasyNegatives, HardNegatives
from product_relevance.preparation.steps.noise import Noise
from product_relevance.preparation.steps.translate import Translate
from product_relevance.preparation.steps.translated_rows import Back, Languages
from product_relevance.utils.options import RaisingParser, read_options
from product_relevance.utils.other_names import require_known

# Steps by their names in a recipe; those after the first get the rows that the columns and folds were made for.
STEPS: dict[str, type[Step] | type[Translate]] = {
    "translate": Translate,
    "languages": Languages,
    "back": Back,
    "noise": Noise,
    "hard_negatives": HardNegatives,
    "easy_negatives": EasyNegatives,
    "filter": Filter,
}


def read_steps(listed: object, where: str) -> list[tuple[str, Step | Translate]]:
    """Read the steps of a recipe.

    Args:
        listed: The list under `steps:`; each step is a name, or a mapping of one name to its options.
        where: The recipe, for error messages.

    Returns:
        (name, the step's options) in order.

    Raises:
        ValueError: No such step or option (with the nearest known one), or a value out of its range.
    """
    if not isinstance(listed, list):
        raise ValueError(f"{where}: steps: found {type(listed).__name__}, expected a list")
    return [_read_step(item, f"{where}: step {number}") for number, item in enumerate(listed, start=1)]


def _read_step(item: object, where: str) -> tuple[str, Step | Translate]:
    item = {item: None} if isinstance(item, str) else item
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"{where}: found {item!r}, expected one name and its options, as noise: {{rate: 0.1}}")
    ((name, options),) = item.items()
    require_known(name, STEPS, where)
    kinds = (STEPS[name],)
    try:
        (step,) = RaisingParser(kinds, prog=name).parse_dict(read_options(kinds, options or {}, name))
        if isinstance(step, Filter) and not step.apply:
            raise ValueError(f"filter of {step.run}: expected apply: drop, flip, down_weight, or a decisions file")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return name, step
