"""Build the pair template of a tokenizer from a prompt, so that texts cannot change the prompt's own tokens."""

from typing import NamedTuple

from product_relevance.text.prompt import Prompt
from product_relevance.utils.tasks import TARGET_NAMES

ROOM = 16  # tokens that query and target must have together


class Answers(NamedTuple):
    """Token ids of the answers, in the order of the labels, and of what stands between reasoning and answer."""

    no: int
    yes: int
    stem: list[int]


def use_prompt(tokenizer, prompt: Prompt, task: str, max_length: int) -> Answers:
    """Make a prompt the pair template of a tokenizer, in place: pairs then give head, query, middle, target, tail.

    Head to middle get token type 0, target and tail type 1: the first part is the same for all targets of a query.
    Cutting to `max_length` tokens takes from the texts only. Words of the texts that look like a control token, as
    `<think>`, are read as plain text.

    Args:
        tokenizer: from `modeling.load_tokenizer`.
        prompt: to be used.
        task: "QC" or "QI"; says what {target_kind} means.
        max_length: tokens per pair at most.

    Raises:
        ValueError: an answer that is more than one token, a prompt too long for `max_length`, or a tokenizer that
            has no chat template though the prompt wants one.
    """
    texts = _texts(tokenizer, prompt, task)
    last = texts[3] or texts[2]
    no, yes = (_answer(tokenizer, prompt, last, word) for word in prompt.answers)
    # a blank in front of a text or an answer belongs to the first of its tokens
    head, middle, tail, stem = (_trusted(tokenizer, text.removesuffix(" ")) for text in texts)
    parts = {"head": _start(tokenizer, prompt) + head, "middle": middle, "tail": tail + stem}
    taken = sum(map(len, parts.values()))
    if max_length - taken < ROOM:
        raise ValueError(
            f"--max_length {max_length}: prompt {prompt.name} alone takes {taken} tokens, expected room for {ROOM} "
            f"more: take at least {taken + ROOM}, or a shorter prompt"
        )
    _set_template(tokenizer, parts, _start(tokenizer, None))
    return Answers(no, yes, stem)


def _texts(tokenizer, prompt: Prompt, task: str) -> tuple[str, str, str, str]:
    """Return head, middle, tail and stem as strings, in the chat template where the prompt wants it."""
    parts = prompt.parts
    stem = parts["stem"] or ""
    text = parts["head"] + "{query}" + parts["middle"] + "{target}" + parts["tail"]
    if prompt.chat:
        if not tokenizer.chat_template:
            raise ValueError(
                "--chat_template: this base's tokenizer has no chat template; leave it out, or take an instruct model"
            )
        turns = [{"role": "user", "content": text.strip()}]
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        text = tokenizer.apply_chat_template(turns, **options)
    head, rest = text.replace("{target_kind}", TARGET_NAMES[task]).split("{query}")
    middle, tail = rest.split("{target}")
    return head, middle, tail, stem.replace("{target_kind}", TARGET_NAMES[task])


def _trusted(tokenizer, text: str) -> list[int]:
    """Tokenise a part of the prompt, in which control tokens count."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"] if text else []


def _start(tokenizer, prompt: Prompt | None) -> list[int]:
    """Return what the tokenizer puts in front of a text; a chat template has it already."""
    if prompt is not None and prompt.chat:
        return []
    single, plain = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return next(single[:i] for i in range(len(single)) if single[i : i + len(plain)] == plain)


def _answer(tokenizer, prompt: Prompt, before: str, word: str) -> int:
    """Return the one token that an answer adds to the text before it."""
    start, whole = _trusted(tokenizer, before.removesuffix(" ")), _trusted(tokenizer, before + word)
    if whole[:-1] != start or whole[-1] == tokenizer.unk_token_id:
        found = tokenizer.convert_ids_to_tokens(whole[max(0, len(start) - 1) :])
        raise ValueError(
            f"prompt {prompt.name}: the answer {word} after {before[-20:]!r} is {found} to this tokenizer, expected "
            "one token more than the text before it: choose other words in {yes/no}, or end the prompt on a blank or "
            "a new line"
        )
    return whole[-1]


def _set_template(tokenizer, parts: dict[str, list[int]], start: list[int]) -> None:
    from tokenizers.processors import TemplateProcessing

    known = {name: ids for name, ids in (parts | {"start": start}).items() if ids}
    pair = ["head:0", "$A:0", "middle:0", "$B:1", "tail:1"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[part for part in ("start", "$A") if part in known or part == "$A"],
        pair=[part for part in pair if part[0] == "$" or part[:-2] in known],
        special_tokens=[
            {"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in known.items()
        ],
    )
    # Tokens such as <think> are not special to Qwen, so split_special_tokens alone would let a text hold them.
    added = tokenizer.added_tokens_decoder.values()
    control = [token for token in added if not token.special and token.content.strip()]
    for token in control:
        token.special = True
    tokenizer.backend_tokenizer.add_special_tokens(control)
