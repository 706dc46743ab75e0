"""Files that come with the package: scripts, recipes, DeepSpeed configurations, templates of cards, the sample."""

from pathlib import Path

INSTALLED = Path(__file__).parents[1] / "shipped"  # only in a wheel, see hatch_build.py
ROOT = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[2]
NAMES = (
    *("train_relevance.py", "push_to_hub.py", "dataset_scripts", "recipes"),
    *("ds_configs", "model_cards", "sample", "LICENSE"),
)
INPUTS = ("recipes", "ds_configs", "sample")  # folders that a recipe or a command may name as in a clone


def shipped_path(name: str) -> Path:
    """Return where a shipped file or folder lies: inside an installed package, or beside it in a clone.

    Args:
        name: Path as in a clone, such as `train_relevance.py` or `recipes/quickstart.yaml`.

    Raises:
        ValueError: Nothing of that name ships with the package.
    """
    parts = Path(name).parts
    path = ROOT.joinpath(*parts)
    if not parts or parts[0] not in NAMES or ".." in parts or not path.exists():
        raise ValueError(f"{name}: found no such shipped file; expected one of, or a path below: {', '.join(NAMES)}")
    return path


def find_input(name: str) -> str:
    """Return a file of the working folder as it was named, or else the shipped file of that name, if there is one.

    Args:
        name: Path as in a clone, such as `sample/train_QC.txt`; other texts pass through.
    """
    parts = Path(name).parts
    if len(parts) < 2 or parts[0] not in INPUTS or ".." in parts or Path(name).exists():
        return name
    path = ROOT.joinpath(*parts)
    return str(path) if path.exists() else name
