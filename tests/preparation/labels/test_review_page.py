"""A person reviews with the keyboard in a real browser; texts stay texts, and only this machine reaches the page."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from product_relevance.preparation.labels import corrections, review_page
from tests.conftest import ROOT, rows_of
from tests.helpers import warm

HOSTILE = '<img src=x onerror="window.hacked=1"> **bold** ![x](http://203.0.113.9/x.png) [y](javascript:hack())'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def table(tmp_path) -> Path:
    """Five rows of the sample as a filter would list them; the first is hostile in every text."""
    rows = pd.DataFrame(rows_of("train_QC.txt")[:5]).rename(
        columns={"origin_query": "query", "category_path": "target"}
    )
    rows = rows.assign(language=["*en*<b>", "es", "es", "ja", "ja"], rank=range(1, 6), probability=0.02, fold="fold-0")
    rows["suggested_label"] = 1 - rows["label"]
    rows["reason"] = rows["label"].map({0: "labelled irrelevant", 1: "labelled relevant"})
    rows.loc[0, ["query", "target", "reason"]] = [HOSTILE, HOSTILE[::-1], "# <script>window.hacked=1</script>"]
    rows.to_parquet(tmp_path / "review.parquet")
    return tmp_path / "review.parquet"


def page_of(table: Path):
    """Run the page without a browser."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs the extra prepare: streamlit")
    arguments = (str(table), str(table.with_name("d.jsonl")), "anna")
    script = f"from product_relevance.preparation.labels.review_page import draw_page\ndraw_page(*{arguments!r})"
    return testing.AppTest.from_string(script, default_timeout=60).run()


def press(page, name: str):
    """Click the button that a key stands for, for the row on the screen."""
    button = next(button for button in page.button if button.key.startswith(f"{name}-"))
    return button.click().run()


def place(page) -> str:
    return next(caption.value for caption in page.caption if caption.value.startswith("row "))[:10]


def made_in(table: Path) -> dict[str, str]:
    return {key: made.decision for key, made in corrections.read_decisions(table.with_name("d.jsonl")).items()}


def test_each_key_decides_the_row_on_the_screen_and_goes_on(table):
    ids = review_page.load_table(table)["id"].tolist()
    page = page_of(table)
    for number, name in enumerate(("accept", "flip", "drop"), start=1):
        assert place(page) == f"row {number} of 5"
        page = press(page, name)
    assert made_in(table) == dict(zip(ids, ("accept", "flip", "drop"), strict=False)) and not page.exception
    assert all(made.by == "anna" for made in corrections.read_decisions(table.with_name("d.jsonl")).values())
    page = press(press(page, "undo"), "undo")
    assert place(page) == "row 2 of 5" and made_in(table) == {ids[0]: "accept"}
    assert place(press(page, "previous")) == "row 1 of 5" and place(press(page, "next")) == "row 2 of 5"


def test_a_new_page_goes_on_at_the_first_row_without_a_decision(table):
    press(press(page_of(table), "accept"), "drop")
    page = page_of(table)
    assert place(page) == "row 3 of 5" and page.sidebar.caption[-1].value == "1 kept, 1 dropped"


def test_a_press_that_comes_late_never_decides_another_row(table):
    page = page_of(table)
    late = next(button for button in page.button if button.key.startswith("flip-"))
    page.session_state.at = review_page.load_table(table)["id"].iat[1]  # the texts of the next row are there already
    late.click().run()
    assert made_in(table) == {}


def test_filters_leave_the_rows_they_name():
    rows = pd.DataFrame({"id": list("abcd"), "language": ["en", "en", "ja", "ja"], "reason": ["x", "y", "x", "y"]})
    assert review_page.shown_rows(rows, {}, "all", "all", False) == [0, 1, 2, 3]
    assert review_page.shown_rows(rows, {}, "ja", "x", False) == [2]
    assert review_page.shown_rows(rows, {"a": {}, "d": {}}, "all", "all", True) == [1, 2]
    assert review_page.open_rows(rows, {"a": {}, "b": {}}, [0, 1, 2]) == [2]


def test_hostile_texts_are_escaped_wherever_markdown_is_read(table):
    page = page_of(table)
    assert [text.value for text in page.text][:2] == [HOSTILE, HOSTILE[::-1]]  # st.text reads no markdown
    shown = next(caption.value for caption in page.caption if caption.value.startswith("row "))
    assert "<script>" not in shown and "\\<script\\>" in shown and "\\*en\\*" in shown


@pytest.mark.parametrize(
    "content, told",
    [(None, "not found"), (b"PAR1 no", "no Parquet file"), (pd.DataFrame({"id": [1]}), "found no column language")],
)
def test_what_is_no_review_table_is_refused(tmp_path, content, told):
    path = tmp_path / "t.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content.to_parquet(path)
    with pytest.raises(ValueError, match=told):
        review_page.load_table(path)


def test_a_table_without_rows_is_refused(table):
    pd.read_parquet(table)[:0].to_parquet(table)
    with pytest.raises(ValueError, match="no row to review"):
        review_page.load_table(table)


def test_a_run_without_its_records_is_refused_with_the_way_out(tmp_path):
    done = warm.run(["relevance", "review", tmp_path])
    assert done.returncode == 1 and "give the records it was trained on with --records" in done.stderr


@pytest.fixture
def server(table):
    """The real command on a free port."""
    pytest.importorskip("streamlit", reason="needs the extra prepare: streamlit")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "product_relevance.cli.main", "review", str(table), "--port", str(port)]
    environment = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"}
    with open(table.with_name("log"), "wb") as log:
        process = subprocess.Popen(
            [*command, "--decisions", str(table.with_name("d.jsonl"))],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=ROOT,
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while not answers(f"{url}/_stcore/health"):
        assert process.poll() is None and time.monotonic() < deadline, table.with_name("log").read_text()
        time.sleep(0.2)
    yield url, process.pid
    process.terminate()
    process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def test_a_person_reviews_with_the_keyboard_in_a_browser(table, server, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra dev: playwright")
    if not CHROMIUM:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    ids = review_page.load_table(table)["id"].tolist()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(120_000)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server[0])

        def on_screen(number: int) -> None:
            # the last button to be drawn: with it all the others take keys
            page.wait_for_selector(f".st-key-next-{ids[number - 1]} button")
            assert page.get_by_text(f"row {number} of 5").is_visible()

        on_screen(1)
        assert page.get_by_text(HOSTILE, exact=True).is_visible()
        page.screenshot(path=str(tmp_path / "review.png"))
        for key, then in [("a", 2), ("f", 3), ("ArrowLeft", 2), ("ArrowRight", 3), ("d", 4), ("u", 3), ("d", 4)]:
            page.keyboard.press(key)
            on_screen(then)
        assert page.evaluate("window.hacked") is None
        browser.close()
    assert made_in(table) == dict(zip(ids, ("accept", "flip", "drop"), strict=False))
    log = [json.loads(line)["decision"] for line in table.with_name("d.jsonl").read_text().splitlines()]
    assert log == ["accept", "flip", "drop", "undo", "drop"]
    assert {url for url in asked if not url.startswith(server[0])} <= {"data:"} and len(asked) > 3


def test_only_this_machine_and_only_by_its_own_name_reaches_the_page(server):
    import psutil

    url, pid = server
    bound = {c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert bound == {"127.0.0.1"}
    for host, status in [("127.0.0.1", 101), ("rebound.example", 403)]:
        assert handshake(url, host) == status


def handshake(url: str, host: str) -> int:
    """Ask for the page's WebSocket under a host name; return the HTTP status."""
    port = int(url.rpartition(":")[2])
    lines = [
        "GET /_stcore/stream HTTP/1.1", f"Host: {host}:{port}", f"Origin: http://{host}:{port}", "Upgrade: websocket",
        "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", "",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.recv(100).split()[1])
