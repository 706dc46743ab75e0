"""Recipes: YAML files of flag names to values."""

from pathlib import Path

from product_relevance.utils.shipped import find_input, shipped_path

ENDINGS = (".yaml", ".yml")


def split_recipe(
    argv: list[str], folder: str = "recipes", *, files_first: bool = False
) -> tuple[Path | None, list[str]]:
    """Take the recipe, which is the first argument, off the flags.

    Args:
        argv: Command line without the program's name.
        folder: Shipped folder whose recipes may be given by name.
        files_first: Whether something else than a recipe may come first.
    """
    for place, word in enumerate(argv):
        if word.startswith(("--local_rank=", "--local-rank=")):  # a launcher such as `deepspeed` puts it first
            continue
        known = word.endswith(ENDINGS) or word in recipe_names(folder)
        if known or not (files_first or word.startswith("-")):
            return find_recipe(word, folder), argv[:place] + argv[place + 1 :]
        break
    return None, argv


def recipe_names(folder: str = "recipes") -> list[str]:
    """Return the names of the shipped recipes of a folder."""
    return sorted(path.stem for path in shipped_path(folder).glob("*.yaml"))


def find_recipe(word: str, folder: str = "recipes") -> Path:
    """Return the file of a recipe: the one that was named, or else the shipped one of that path or name.

    Args:
        word: Path such as `recipes/quickstart.yaml`, or a name such as `quickstart`.
        folder: Shipped folder of the recipes that have names.
    """
    if word in recipe_names(folder) and not Path(word).is_file():
        return shipped_path(f"{folder}/{word}.yaml")
    return Path(find_input(word))


def load_recipe(path: Path) -> dict[str, object]:
    """Read a recipe; `read_options` checks its keys and values.

    A path such as `sample/train_QC.txt` that the working folder lacks becomes that of the shipped file.

    Raises:
        ValueError: no such file, or not a YAML mapping.
    """
    import yaml

    if not path.is_file():
        names = ", ".join(recipe_names())
        raise ValueError(f"{path}: no such recipe; expected a .yaml file, or a name: {names}")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: expected a mapping of flag names to values, found {type(recipe).__name__}")
    return {key: _with_shipped_inputs(value) for key, value in recipe.items()}


def _with_shipped_inputs(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_shipped_inputs(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_shipped_inputs(part) for part in value]
    if isinstance(value, str):  # a recipe for two tasks joins their files by a comma
        return ",".join(find_input(part) for part in value.split(","))
    return value
