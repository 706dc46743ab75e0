"""The documentation builds without a warning: its links, anchors and navigation lead somewhere."""

import re
from pathlib import Path

import pytest

from product_relevance.cli.scripts import SCRIPTS
from product_relevance.training import arguments
from product_relevance.utils.options import own_names
from tests.conftest import ROOT
from tests.helpers.pages import pages
from tests.helpers.programs import flags_of, module_of, scripts, subcommands

LONGEST = 36  # words of a sentence


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


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith("docs/how-to/")])
def test_a_guide_says_what_the_reader_gets_and_then_its_command(page):
    _, says, command, *_ = (ROOT / page).read_text(encoding="utf-8").split("\n\n")
    assert says.startswith("You ") and command.startswith("```sh\n")


@pytest.mark.parametrize("page", pages())
def test_no_sentence_needs_a_second_reading(page):
    prose = re.sub(
        r"```.*?```|`[^`]+`|^[|#!][^\n]*|\]\(.*?\)", "code", (ROOT / page).read_text("utf-8"), flags=re.S | re.M
    )
    sentences = re.split(r"(?<=[.:?])\s|\n\n|^ *(?:-|\d\.) ", prose, flags=re.M)
    assert not [sentence for sentence in sentences if len(sentence.split()) > LONGEST]


def test_every_figure_is_shown(site):
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    for figure in (ROOT / "docs/figures").iterdir():
        assert (site / "figures" / figure.name).is_file()
        assert f"figures/{figure.name}" in text, figure.name


def test_the_reference_holds_every_flag_of_every_command(site):
    pages = "".join(path.read_text(encoding="utf-8") for path in sorted((site / "reference").glob("*.html")))
    for name, parser in subcommands().items():
        assert f"relevance {name}" in pages
        assert all(f"<code>{flag}</code>" in pages for flag in flags_of(parser) - {"--help"}), name
    for name in own_names(arguments.KINDS):
        assert f"<code>--{name}</code>" in pages, name
    for name in scripts("dataset_scripts"):
        flags = flags_of(module_of("dataset_scripts", name).make_parser()) - {"--help"}
        assert all(f"<code>{flag}</code>" in pages for flag in flags), name


def test_a_command_that_is_a_script_links_to_its_flags(site):
    page = (site / "reference/cli.html").read_text(encoding="utf-8")
    for name, (script, _) in SCRIPTS.items():
        section = page.partition(f'<h2 id="relevance-{name}">')[2].partition("<h2")[0]
        target, _, anchor = re.search(r'Its flags: <a href="([^"]+)">', section)[1].partition("#")
        table = page if not target else (site / "reference" / target).read_text(encoding="utf-8")
        assert Path(script).name in table and (not anchor or f'id="{anchor}"' in table), name


def test_nothing_is_left_to_generate(site):
    assert not [path.name for path in site.rglob("*.html") if "generated: " in path.read_text(encoding="utf-8")]


def test_mkdocs_fails_at_a_broken_link(site, tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[gone](gone.md) and [anchor](#gone)")
    options = {"docs_dir": str(tmp_path / "docs"), "site_dir": str(tmp_path / "site"), "nav": [{"Start": "index.md"}]}
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, **options)
    with pytest.raises(Abort, match="2 warnings"):
        build(config)


def test_every_recipe_is_in_the_table_and_every_row_of_it_there():
    text = (ROOT / "docs/reference/recipes.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\| (`.*?`) \|", text, re.M) for name in re.findall(r"`([\w.-]+)`", row)}
    assert named == {path.stem for path in (ROOT / "recipes").rglob("*.yaml")}


def test_the_readme_is_short_and_shows_a_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert re.search(r"!\[.+\]\(docs/figures/pipeline.svg\)", text)


def test_the_picture_is_that_of_its_program(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/hooks"))
    import draw_pipeline

    committed = draw_pipeline.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(draw_pipeline, "FILE", tmp_path / "pipeline.svg")
    draw_pipeline.main()
    drawn = re.compile("<!-- (.+) -->")  # the texts; their outlines are those of a font's version
    assert drawn.findall((tmp_path / "pipeline.svg").read_text(encoding="utf-8")) == drawn.findall(committed)
