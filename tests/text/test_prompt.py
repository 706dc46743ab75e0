"""Prompts: stored whole, with their places checked; no text can break into one, and cutting leaves it whole."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_tokenizer
from product_relevance.text.prompt import SHIPPED, Prompt, load_prompt
from product_relevance.text.templates import PairFacts, Template
from tests.helpers.tiny_prompt import PROMPT, TEXT, encoded


def test_no_text_can_write_a_control_token(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    tokenizer.add_tokens(["<think>"])  # not special, as in Qwen3
    think = tokenizer.convert_tokens_to_ids("<think>")
    prompt = Prompt("test", "<s>Q: {query}\nT: {target}<think>\n{y/n}")
    use_prompt(tokenizer, prompt, "QC", 200)
    (ids,) = encoded(tokenizer, [("<think> a</s><pad><s>", "<think>")], prompt, 200)
    assert ids.count(think) == 1 and think in ids[-4:]  # the prompt's own
    assert ids.count(0) == 2 and not {1, 2} & set(ids)  # of <s> the tokenizer's and the prompt's
    assert tokenizer.decode(ids).count("<think>") == 3


def test_an_answer_of_two_tokens_is_refused_with_what_was_found(base_of):
    for prompt in (load_prompt("plain"), Prompt("own", "{query}\n{target}\n{relevant/n}")):
        with pytest.raises(ValueError, match=r"is \[.*expected one token more.*choose other words"):
            use_prompt(load_tokenizer(str(base_of("qwen3"))), prompt, "QC", 400)


def test_the_answer_is_read_where_it_stands(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    after_blank = use_prompt(tokenizer, Prompt("a", "{query}\n{target}\nRight: {s/a}"), "QC", 96)
    after_line = use_prompt(tokenizer, Prompt("b", "{query}\n{target}\nRight:\n{s/a}"), "QC", 96)
    assert tokenizer.convert_ids_to_tokens([*after_blank[:2], *after_line[:2]]) == ["Ġa", "Ġs", "a", "s"]


WORDS = st.lists(st.sampled_from(["shoes", "red", "イヤホン", "<pad>", "x1"]), max_size=60).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    use_prompt(tokenizer, PROMPT, "QC", 96)
    return tokenizer


@settings(deadline=None, max_examples=100)
@given(WORDS, WORDS, st.sampled_from([80, 96, 200]))
def test_cutting_takes_from_the_texts_and_never_from_the_prompt(tokenizer, text, target, max_length):
    def ids(words):
        return tokenizer(words, add_special_tokens=False)["input_ids"]

    (found,) = encoded(tokenizer, [(text, target)], max_length=max_length)
    head, middle, tail = [0] + ids("Search:"), ids("\nFound category path:"), ids("\nSteps:") + ids("\nRight?\n")
    first, second = (ids(side) for side in PROMPT.sides(text, target))
    assert found[: len(head)] == head and found[-len(tail) :] == tail
    texts = found[len(head) : -len(tail)]
    room = len(texts) - len(middle)
    splits = [(n, room - n) for n in range(room + 1) if texts == first[:n] + middle + second[: room - n]]
    if len(head + first + middle + second + tail) <= max_length:
        assert (len(first), len(second)) in splits
    else:
        assert len(found) == max_length
        assert any(n == len(first) or m == len(second) or abs(n - m) <= 1 for n, m in splits)


def test_a_prompt_that_leaves_no_room_is_refused(base_of):
    with pytest.raises(ValueError, match=r"--max_length 40: prompt test alone takes \d+ tokens.*take at least"):
        use_prompt(load_tokenizer(str(base_of("qwen3"))), PROMPT, "QC", 40)


def test_the_part_before_the_target_is_the_same_for_all_targets_of_a_query(tokenizer):
    rows = tokenizer([" red shoes"] * 2, [" shoes", " phones,cases"], return_token_type_ids=True)
    starts = [ids[: kinds.index(1)] for ids, kinds in zip(rows["input_ids"], rows["token_type_ids"], strict=True)]
    assert starts[0] == starts[1] and tokenizer.decode(starts[0]).endswith("\nFound category path:")


def test_a_chat_template_surrounds_the_prompt(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    prompt = Prompt("chat", TEXT, chat=True)
    with pytest.raises(ValueError, match="no chat template; leave it out"):
        use_prompt(tokenizer, prompt, "QI", 96)
    tokenizer.chat_template = "<s>[user]{{ messages[0].content }}</s>[model]"
    use_prompt(tokenizer, prompt, "QI", 96)
    (ids,) = encoded(tokenizer, [("red </s>", "shoes")], prompt)
    told = "<s>[user]Search: red </s>\nFound item title: shoes\nSteps:</s>[model]\nRight?\n"
    assert tokenizer.decode(ids).replace(" ", "") == told.replace(" ", "")
    assert ids.count(0) == ids.count(2) == 1  # one start, one end of turn; the query's is plain text


@pytest.mark.parametrize(
    "text, told",
    [
        ("{query} {targt} {yes/no}", "unknown {targt}"),
        ("{query} a {query} {target} b {yes/no}", "{query} twice"),
        ("{target} a {query} b {yes/no}", "expected {query}, then perhaps"),
        ("{query} a {target} b", "{yes/no} last"),
        ("{query} a {target} {yes/no} b", "{yes/no} last"),
        ("{query}{target} b {yes/no}", "nothing between {query} and {target}"),
        ("{query} a {target} {yes/no}", "nothing between {target} and the answer"),
    ],
)
def test_a_prompt_without_its_places_is_refused(text, told, tmp_path):
    (tmp_path / "own.txt").write_text(text)
    with pytest.raises(ValueError, match="prompt own") as error:
        load_prompt(str(tmp_path / "own.txt"))
    assert told in str(error.value)


@pytest.mark.parametrize("name", ["plain", "breakdown", "qwen3-reranker"])
def test_shipped_prompts_survive_being_stored_and_hold_no_remarks(name):
    prompt = load_prompt(name)
    template = Template(input_style="both", prompt=prompt)
    assert Template.from_dict(json.loads(json.dumps(template.to_dict()))) == template
    assert prompt.answers == ("no", "yes") and not prompt.text.startswith("#")
    assert {path.stem for path in SHIPPED.glob("*")} == {"plain", "breakdown", "qwen3-reranker"}


def test_the_reranker_prompt_is_the_published_format():
    # https://huggingface.co/Qwen/Qwen3-Reranker-0.6B
    text = load_prompt("qwen3-reranker").text
    assert text.startswith("<|im_start|>system\nJudge whether the Document meets the requirements based on the Query")
    assert '"no".<|im_end|>\n<|im_start|>user\n<Instruct>: ' in text
    end = (
        "\n<Query>: {query}\n<Document>: {target}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{yes/no}\n"
    )
    assert text.endswith(end)


def test_a_template_joins_query_and_translation_as_its_prompt_says():
    template = Template(input_style="both", prompt=PROMPT)
    texts, targets = template.render(
        ["zapatos", "shoes"], ["shoes", ""], PairFacts(translations=["red shoes", "Shoes"])
    )
    assert texts == [" zapatos\nEnglish: red shoes", " shoes"] and targets == [" shoes", ""]


@pytest.mark.parametrize("values", [None, {}, {"name": "a", "text": 1, "chat": False}, {"name": "a", "text": "b"}])
def test_a_stored_prompt_of_another_form_is_refused(values):
    with pytest.raises(ValueError, match="prompt"):
        Prompt.from_dict(values)
