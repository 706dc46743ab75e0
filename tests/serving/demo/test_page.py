"""The demo page in a real browser, wide and narrow, and as programs call it; no request leaves this machine."""

import pytest

from tests.conftest import free_port
from tests.helpers.serving import request, tiny_run

pytest.importorskip("gradio", reason="extra [demo] is not installed")
from product_relevance import RelevanceEnsemble
from product_relevance.serving.demo.answers import DemoAnswers
from product_relevance.serving.demo.page import build_page, launch_page
from product_relevance.serving.limits import Limits

HOSTILE = '<img src=x onerror="window.hacked=1"> ${window.hacked=1} {{1}}'


@pytest.fixture(scope="module")
def url(base_of):
    ensemble = RelevanceEnsemble.from_pretrained(tiny_run(base_of("qwen3")), device="cpu")
    blocks, port = build_page(DemoAnswers(ensemble, Limits(documents=5)), "<b>shop"), free_port()
    launch_page(blocks, "127.0.0.1", port, prevent_thread_lock=True)
    yield f"http://127.0.0.1:{port}"
    blocks.close()


def test_a_program_calls_the_page(url):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(url, verbose=False, analytics_enabled=False)
    found = client.predict("red shoes", ["shoes", "cables"], api_name="/score")
    assert {place["target"] for place in found["places"]} == {"shoes", "cables"} and found["language"] == "en"
    with pytest.raises(AppError, match="Targets: found 6 lines, expected at most 5"):
        client.predict("red shoes", ["shoes"] * 6, api_name="/score")
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/score"]


def test_a_browser_may_load_nothing_from_elsewhere(url):
    status, page, headers = request(url, "GET", "/")
    assert status == 200 and "http" not in headers["content-security-policy"]
    assert b"<b>shop" not in page and b"fonts.g" not in page and b"cdn" not in page.lower()


def choose_file(page, file):
    """Choose a file as a person does: on a loaded machine an upload may stand still, and the page is loaded again."""
    sync_api = pytest.importorskip("playwright.sync_api")
    for _ in range(4):
        page.set_input_files("input[type=file]", file)
        try:
            return page.get_by_text(file.name).first.wait_for(timeout=15_000)
        except sync_api.TimeoutError:
            page.reload()
            page.wait_for_selector("input[type=file]", state="attached")
    pytest.fail(f"{file.name} was not uploaded")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_person_tries_targets_a_file_and_a_mistake(url, browser, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(url)
    page.get_by_label("Category paths, one per line").fill(f"shoes\n\n{HOSTILE}\n")
    page.get_by_label("Query", exact=True).fill("red shoes")
    page.get_by_label("Query", exact=True).press("Enter")
    page.wait_for_selector("#answer tr.place")
    texts = page.locator("#answer tr.place td:last-child").all_inner_texts()
    assert sorted(texts) == sorted(["shoes", HOSTILE]) and page.evaluate("window.hacked") is None
    assert "fold-0" in page.inner_text("#answer details[open]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    (file := tmp_path / "catalogue.txt").write_text("cables\n" * 3 + "lamps\n", encoding="utf-8")
    choose_file(page, file)
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text("4 category paths scored").wait_for()

    page.get_by_label("Query", exact=True).fill(" ")
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_role("alert").filter(has_text="Query: found no text").wait_for()
    assert all(sent.startswith((url, "data:", "blob:")) for sent in asked), asked
    assert said == []
