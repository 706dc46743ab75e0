"""Build the demo page with Gradio: a form, a table of scores, a function for programs; nothing from elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it when it is imported
import gradio as gr
from jinja2 import Environment
from markupsafe import escape
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from product_relevance.serving.demo.answers import DemoAnswers
from product_relevance.serving.demo.questions import TOP, DemoAnswer, DemoQuestion, read_catalogue
from product_relevance.text.language_codes import LANGUAGES
from product_relevance.utils.tasks import TARGET_NAMES

HERE = Path(__file__).parent
KEPT_SECONDS = 3600  # a catalogue that was sent here is deleted after that time
WAITING = 64  # questions; further ones are refused
# Gradio's page has scripts and styles of its own within it
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; base-uri 'self'; form-action 'self'"
TEMPLATE = Environment(autoescape=True, trim_blocks=True).from_string((HERE / "answer.html").read_text("utf-8"))


@dataclass
class DemoPage:
    """What the page does with what a person typed."""

    answers: DemoAnswers

    def show(self, query: str, lines: str, file: str | None, *options: Any) -> str:
        """Return the table for what stands in the form, or what is wrong with it."""
        language, translation, task, top_k = options
        try:
            targets = read_catalogue(file) if file else lines.splitlines()
            question = DemoQuestion(query, targets, language or "", translation or "", task or "", int(top_k or TOP))
            return self._render(self.answers.answer(question), question.task)
        except ValueError as error:
            return f'<p class="error" role="alert">{escape(error)}</p>'

    def score(
        self, query: str, targets: list[str], language: str = "", translation: str = "", task: str = ""
    ) -> dict[str, Any]:
        """Order targets by their relevance to a query: scores per fold, threshold, decision, text as it was read."""
        question = DemoQuestion(query, targets, language, translation, task, max(len(targets), 1))
        try:
            return self.answers.answer(question).to_json()
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def _render(self, answer: DemoAnswer, task: str) -> str:
        target = TARGET_NAMES[task or self.answers.tasks[0]]
        name = LANGUAGES.get(answer.language, "unknown" if answer.language == "unk" else answer.language)
        return TEMPLATE.render(answer=answer, target=target, language=name)


def build_page(answers: DemoAnswers, name: str) -> gr.Blocks:
    """Build the page of a model.

    Args:
        answers: of the loaded model.
        name: of the model, for the heading.

    Returns:
        Blocks with a form, and with the function `/score` for programs.
    """
    page, two = DemoPage(answers), len(answers.tasks) > 1
    with gr.Blocks(title=f"Try {name}", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as blocks:
        gr.HTML(f"<h1>Try {escape(name)}</h1><p>{_describe(answers)}</p>")
        task = gr.Radio(list(answers.tasks), value=answers.tasks[0], label="Task", visible=two)
        query = gr.Textbox("usb kabel", label="Query", max_lines=1)
        lines = gr.Textbox("cables\nshoes", label=f"{_kind(answers).capitalize()}s, one per line", lines=4)
        file = gr.File(label="Or a text file with one per line", file_types=["text"], height=150)
        with gr.Row():
            known = [("identify it", ""), *((f"{text} ({code})", code) for code, text in LANGUAGES.items())]
            language = gr.Dropdown(known, value="", label="Language of the query", allow_custom_value=True)
            top_k = gr.Number(TOP, label="How many are shown", minimum=1, precision=0)
        label = "English translation of the query (may stay empty)"
        translation = gr.Textbox(label=label, visible=answers.reads_translations)
        button, table = gr.Button("Score", variant="primary"), gr.HTML(elem_id="answer")
        asked = [query, lines, file, language, translation, task, top_k]
        gr.on([button.click, query.submit], page.show, asked, table, api_visibility="private", concurrency_limit=1)
        gr.api(page.score, api_name="score", concurrency_limit=1)
    blocks.queue(max_size=WAITING)
    return blocks


def launch_page(blocks: gr.Blocks, host: str | None = None, port: int | None = None, **options: Any) -> None:
    """Serve the page until the process is interrupted; no tunnel, no telemetry, no file from another server.

    Args:
        blocks: from `build_page`.
        host: address to listen on; GRADIO_SERVER_NAME or 127.0.0.1 if None.
        port: GRADIO_SERVER_PORT, or the first free one from 7860 on, if None.
        options: of `Blocks.launch`.

    Raises:
        ValueError: the port is taken.
    """
    text, code = (
        [gr.themes.Font(name) for name in names]  # plain strings would be files of fonts
        for names in (("system-ui", "sans-serif"), ("ui-monospace", "monospace"))
    )
    try:
        blocks.launch(
            **options,
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size="5mb",
            css_paths=HERE / "page.css",
            theme=gr.themes.Default(primary_hue="blue", font=text, font_mono=code),
            app_kwargs={"middleware": [Middleware(KeepToThisServer)]},
        )
    except OSError as error:
        raise ValueError(f"--port {port}: {error}; choose another one") from None


class KeepToThisServer:
    """Adds headers that let a browser load nothing from other servers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
                pairs = [(name.encode(), value.encode()) for name, value in added.items()]
                message = {**message, "headers": [*message["headers"], *pairs]}
            await send(message)

        await self.app(scope, receive, with_headers)


def _kind(answers: DemoAnswers) -> str:
    return TARGET_NAMES[",".join(answers.tasks)]


def _describe(answers: DemoAnswers) -> str:
    limits = [(task, answers.of_task(task).threshold) for task in answers.tasks]
    start = f"Scores from 0 to 1 how relevant {_kind(answers)}s are to a query."
    if len(limits) == 1:
        return f"{start} A score of {limits[0][1]:.3f} or more counts as relevant."
    parts = (f"from {limit:.3f} on for {task}" for task, limit in limits)
    return f"{start} A score counts as relevant {' and '.join(parts)}."
