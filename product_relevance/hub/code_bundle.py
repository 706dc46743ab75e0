"""What a published ensemble brings of this package: its sources, the handler, the requirements, the metric."""

import re
import shutil
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from product_relevance.models.loading import packaged_bases
from product_relevance.utils.shipped import shipped_path

PACKAGE = Path(__file__).parents[1]
# What scoring imports; training and drawing need more. A server brings its own torch, so its version stays open.
SCORING = (
    *("transformers", "peft", "accelerate", "huggingface_hub", "safetensors", "tokenizers", "scikit-learn", "scipy"),
    *("pandas", "pyarrow", "numpy", "langidentify", "PyYAML", "tqdm"),
)
ROOMS = ("utils", "text", "data", "evaluation", "models", "ensemble", "serving")  # that scoring imports
METRIC = "relevance_f1"
METRICS = "product_relevance.evaluation.metrics"
IMPORT = re.compile(r"^from product_relevance\.((?:\w+\.)*)(\w+) import (\(?\s*)(\w+)", re.M)
METRIC_CARD = """---
title: Relevance F1
sdk: static
tags: [evaluate, metric]
---

# Relevance F1

Positive F1 of product-search relevance beside the floor that always answering "relevant" reaches, for the
[`evaluate`](https://github.com/huggingface/evaluate) library.

```python
import evaluate

metric = evaluate.load("{repo_id}")
print(metric.compute(predictions=[0.91, 0.62, 0.35, 0.48], references=[1, 1, 0, 0], threshold=0.44))
```

"""
METRIC_PAGE = "<!doctype html>\n<title>Relevance F1</title>\n<p>A module for evaluate.load(): see README.md.</p>\n"


def copy_code(folder: Path, base: str) -> None:
    """Bring the package along, so that a server of the Hub needs it from nowhere else.

    Args:
        folder: staged folder of an ensemble.
        base: name of the run's base.
    """
    copy_package(folder / "code")
    shutil.copyfile(PACKAGE / "serving" / "handler.py", folder / "handler.py")
    (folder / "requirements.txt").write_text(scoring_requirements(base), encoding="utf-8")


def copy_package(folder: Path) -> None:
    """Copy the rooms of the package that scoring imports, and its licence, into a folder; it is made."""
    inner = folder / PACKAGE.name
    inner.mkdir(parents=True)
    shutil.copyfile(PACKAGE / "__init__.py", inner / "__init__.py")
    for room in ROOMS:
        shutil.copytree(PACKAGE / room, inner / room, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    shutil.copyfile(shipped_path("LICENSE"), folder / "LICENSE")


def scoring_requirements(base: str) -> str:
    """Return the requirements.txt of an ensemble: what scoring needs, in the versions of this machine.

    Args:
        base: name of the run's base; one from a package brings the requirements of its extra.
    """
    wanted = [Requirement(text) for text in requires("product-relevance") or ()]
    torch = next(one for one in wanted if one.name == "torch")
    more = [one.name for one in wanted if one.marker and one.marker.evaluate({"extra": _extra_of(base)})]
    return "\n".join([f"torch{torch.specifier}", *(f"{name}=={version(name)}" for name in (*SCORING, *more))]) + "\n"


def _extra_of(base: str) -> str:
    """Return the extra that brings a base from a package; empty for other bases."""
    if not packaged_bases.is_embedded(base):
        return ""
    return packaged_bases.BASES[base.removeprefix(packaged_bases.PREFIX)]["extra"]


def copy_metric(folder: Path, repo_id: str) -> None:
    """Copy the `evaluate` module so that it stands alone; `evaluate` fetches what its first file imports, no more.

    Args:
        folder: to make.
        repo_id: of the module on the Hub.
    """
    folder.mkdir()
    needed = _imports_of(METRICS)
    near = "# named here so that evaluate fetches them; a comment behind one would be read as its address\n"
    near += "\n".join(f"from .{module.rpartition('.')[2]} import {name}" for module, name in sorted(needed.items()))
    files = {f"{METRIC}.py": _standing_alone(f"{METRICS.rpartition('.')[0]}.{METRIC}.{METRIC}")}
    files[f"{METRIC}.py"] = files[f"{METRIC}.py"].replace("\nfrom .metrics", f"\n{near}\nfrom .metrics")
    for module in (METRICS, *needed):
        files[_file_of(module).name] = _standing_alone(module)
    arguments = (_file_of(METRICS).parent / METRIC / "README.md").read_text(encoding="utf-8").partition("| Argument")
    files["README.md"] = METRIC_CARD.replace("{repo_id}", repo_id) + "".join(arguments[1:])
    files["index.html"] = METRIC_PAGE
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _file_of(module: str) -> Path:
    return PACKAGE.parent / (module.replace(".", "/") + ".py")


def _standing_alone(module: str) -> str:
    """Return the source of a module whose imports from this package are from files beside it."""
    return IMPORT.sub(r"from .\2 import \3\4", _file_of(module).read_text(encoding="utf-8"))


def _imports_of(module: str) -> dict[str, str]:
    """Map every module of the package that this one imports, directly or through others, to one of its names."""
    found = {
        f"product_relevance.{room}{name}": what
        for room, name, _, what in IMPORT.findall(_file_of(module).read_text("utf-8"))
    }
    for name in list(found):
        found |= _imports_of(name)
    return found
