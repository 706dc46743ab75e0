"""The API key of `relevance serve`: who is answered, what stays open, and how the key is read."""

import base64

import pytest

from tests.helpers.serving import post, request

pytest.importorskip("fastapi", reason="extra [serve] is not installed")
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from product_relevance.serving.http.access import Access, RequireKey

KEY = "a-key-of-this-test"
PATHS = ("/health", "/metrics", "/openapi.json", "/")


@pytest.fixture(params=[False, True])
def everywhere(request):
    return request.param


@pytest.fixture
def url(everywhere):
    from tests.helpers.serving import live

    app = FastAPI()
    app.add_middleware(RequireKey, access=Access(KEY, everywhere))
    for path in PATHS:
        app.get(path)(lambda: JSONResponse("open"))
    app.post("/predict")(lambda: JSONResponse("scored"))
    app.post("/")(lambda: JSONResponse("scored"))
    with live(app) as address:
        yield address


def test_a_client_with_the_key_is_answered(url):
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert post(url, {}, "/predict", authorization=f"{scheme} {KEY}")[:2] == (200, "scored")


WRONG = {
    "nothing": {},
    "another key": {"authorization": "Bearer another"},
    "a beginning": {"authorization": f"Bearer {KEY[:-1]}"},
    "more": {"authorization": f"Bearer {KEY}x"},
    "no key": {"authorization": "Bearer"},
    "another scheme": {"authorization": f"Token {KEY}"},
    "no scheme": {"authorization": KEY},
    "basic": {"authorization": "Basic " + base64.b64encode(f"x:{KEY}".encode()).decode()},
    "no ASCII": {"authorization": "Bearer \xe9"},
}


@pytest.mark.parametrize("case", WRONG)
def test_others_get_401_and_how_to_ask(url, case):
    for path in ("/predict", "/", "/nothing"):
        status, answer, headers = post(url, {}, path, **WRONG[case])
        assert status == 401 and answer["error_type"] == "Unauthorized" and KEY not in answer["error"]
        assert headers["www-authenticate"] == "Bearer"


def test_health_metrics_and_the_page_stay_open_unless_asked(url, everywhere):
    for path in PATHS:
        assert request(url, "GET", path)[0] == (401 if everywhere else 200), path
        assert request(url, "GET", path, {"authorization": f"Bearer {KEY}"})[0] == 200, path
    assert request(url, "GET", "/predict")[0] == 401


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("RELEVANCE_API_KEY", raising=False)
    assert Access.from_environment() == Access(None)
    monkeypatch.setenv("RELEVANCE_API_KEY", KEY)
    assert Access.from_environment(True) == Access(KEY, True)
    assert KEY not in repr(Access(KEY))


@pytest.mark.parametrize("key", ["", " a", "a\n", "schlüssel"])
def test_a_key_that_no_client_can_send_is_an_error(key):
    with pytest.raises(ValueError, match="RELEVANCE_API_KEY: found"):
        Access(key)


def test_without_a_key_there_is_nothing_to_close():
    with pytest.raises(ValueError, match="--key_everywhere: found no variable RELEVANCE_API_KEY"):
        Access(None, everywhere=True)
