"""The documentation builds without a warning: its links, anchors and navigation lead somewhere."""

import pytest

from tests.conftest import ROOT
from tests.helpers.pages import pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build all pages as `mkdocs build --strict` does; return the folder with the HTML."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)  # raises Abort at the first warning
    return folder


def test_every_page_is_built_and_in_the_navigation(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in pages()[1:]:
        html = page.removeprefix("docs/").removesuffix(".md") + ".html"
        assert (site / html).is_file()
        assert html == "index.html" or f'href="{html}"' in start, f"{page} is not in nav of mkdocs.yml"


def test_every_figure_is_shown(site):
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    for figure in (ROOT / "docs/figures").iterdir():
        assert (site / "figures" / figure.name).is_file()
        assert f"figures/{figure.name}" in text, figure.name
