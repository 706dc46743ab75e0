"""How an extra is installed: from the clone, or from the wheel that brought the package."""

import tomllib

from product_relevance.utils import extras
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_a_clone_is_installed_in_place():
    assert extras.how_to_install("serve") == "pip install '.[serve]' in a clone of this project"


def test_the_wheel_is_installed_again_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "INSTALLED", tmp_path)
    wheel = f"product_relevance-{PROJECT['version']}-py3-none-any.whl"
    assert extras.how_to_install("serve") == f"pip install '{wheel}[serve]'"


def test_developers_get_every_extra_that_make_test_needs():
    (mine,) = [text for text in PROJECT["optional-dependencies"]["dev"] if text.startswith("product-relevance[")]
    engines = {"ray"}  # 202 MB, by `make test-engines` alone
    wanted = set(PROJECT["optional-dependencies"]) - {"dev"} - engines
    assert set(mine.partition("[")[2].rstrip("]").split(",")) == wanted


def test_the_page_on_installing_lists_every_extra():
    page = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    assert [name for name in PROJECT["optional-dependencies"] if f"| `{name}` |" not in page] == []
