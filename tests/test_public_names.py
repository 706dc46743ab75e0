"""The public names come from the top of the package, and only when asked for."""

import ast
import subprocess
import sys

import pytest

import product_relevance
from tests.conftest import ROOT

NAMES = sorted(set(product_relevance.__all__) - {"__version__"})
HEAVY = ("torch", "transformers", "datasets", "peft", "evaluate", "huggingface_hub", "pandas", "pyarrow", "sklearn")


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_importable_and_has_a_docstring(name):
    found = getattr(product_relevance, name)
    assert found.__name__ == name
    assert found.__doc__


def test_type_checkers_and_the_program_see_the_same_names():
    source = ast.parse((ROOT / "product_relevance" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in source.body if isinstance(node, ast.If))
    typed = {alias.name: line.module for line in block.body for alias in line.names}
    places = {name: f"product_relevance.{place}" for name, place in product_relevance._PLACES.items()}
    assert typed == places
    assert sorted(typed) == NAMES


def test_an_unknown_name_is_an_attribute_error_and_dir_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'RelevanceEnsembel'"):
        _ = product_relevance.RelevanceEnsembel
    assert set(product_relevance.__all__) <= set(dir(product_relevance))


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, product_relevance; print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
