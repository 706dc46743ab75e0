"""GET / of `relevance serve`: a person tries texts in a real browser, wide and narrow; nothing is foreign."""

import json
import re

import pytest

from tests.helpers.serving import get, live, request, tiny_run

pytest.importorskip("fastapi", reason="extra [serve] is not installed")
from product_relevance import RelevanceEnsemble
from product_relevance.serving.http.access import Access
from product_relevance.serving.http.page import PageFacts, render_page
from product_relevance.serving.http.server import Settings, make_app
from product_relevance.serving.limits import Limits

HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def ensemble(base_of):
    return RelevanceEnsemble.from_pretrained(tiny_run(base_of("qwen3")), device="cpu")


@pytest.fixture(scope="module", params=[None, "k"])
def key(request):
    return request.param


@pytest.fixture(scope="module")
def url(ensemble, key):
    with live(make_app(ensemble, Settings(timeout=200, access=Access(key)))) as address:
        yield address


def test_the_page_lists_each_endpoint_of_the_openapi_document(url):
    page, document = get(url, "/"), json.loads(get(url, "/openapi.json"))
    listed = re.findall(r"<summary><code>(\w+) (/[\w/]+)</code>", page)
    assert {(path, method.lower()) for method, path in listed} == {
        (path, method) for path, methods in document["paths"].items() for method in methods
    }
    assert len(listed) == len(set(listed)) >= 6


def test_nothing_of_the_page_comes_from_elsewhere(url):
    status, page, headers = request(url, "GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert not re.search(rb"(src|href)=.?(https?:)?//|@import|url\(", page)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_the_pages_of_fastapi_that_load_scripts_from_a_cdn_are_gone(url, key):
    headers = {"authorization": f"Bearer {key}"}
    assert [request(url, "GET", path, headers)[0] for path in ("/docs", "/redoc")] == [404, 404]


def test_texts_of_the_document_are_escaped():
    operation = {"description": HOSTILE, "responses": {"200": {"description": HOSTILE}}}
    document = {"info": {"title": HOSTILE, "version": "1"}, "paths": {"/a": {"get": operation}}}
    html, _ = render_page(document, PageFacts("QI", 0.5, True, True, Limits()))
    assert HOSTILE not in html and html.count("&lt;img") == 4
    assert 'id="language" placeholder="de" autocomplete="off" required' in html and "item title" in html


@pytest.mark.parametrize("width", [1280, 390])
def test_a_person_tries_texts_and_reads_scores(url, key, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(url)
    page.fill("#query", "red shoes")
    page.fill("#texts", f"shoes\n\n{HOSTILE}\n")
    if key:
        page.fill("#key", key)
    page.click("button")
    page.wait_for_selector("#answer tbody tr")
    texts = page.locator("#answer tbody td:last-child").all_inner_texts()
    assert sorted(texts) == sorted(["shoes", HOSTILE]) and page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".origin").first.text_content() == url
    for summary in page.locator("main > details > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(sent.startswith(url) or sent.startswith("data:") for sent in asked), asked
    assert said == []


def test_what_the_server_refuses_is_said_on_the_page(url, key, browser):
    page = browser.new_page()
    page.goto(url)
    page.fill("#language", "no code")
    if key:
        page.fill("#key", key)
    page.click("button")
    page.locator("#error", has_text="language").wait_for()
    assert "language: found no code of ISO 639" in page.inner_text("#error")
    if key:
        page.fill("#key", "another")
        page.click("button")
        page.locator("#error", has_text="Bearer").wait_for()
