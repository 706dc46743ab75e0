"""Translation by any causal language model from a few examples in its prompt."""

import copy
import inspect
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from product_relevance.models.loading import checkpoints
from product_relevance.text.language_codes import LANGUAGES

if TYPE_CHECKING:
    import torch
    from transformers import Cache

HEADER = "Shopping queries in many languages and what they mean in English.\n\n"
# Written for this prompt, and peculiar: three words in a row of an example, in the translation of another query, were
# copied and not meant. The languages that a small model knows least have an example each.
SHOTS = (
    ("es", "disfraz de pulpo morado para perro", "purple octopus costume for dogs"),
    ("de", "Ukulele Koffer Sopran wasserdicht", "waterproof soprano ukulele case"),
    ("ja", "はんだごて 温度調節 60W", "adjustable temperature soldering iron 60W"),
    ("ar", "خيمة لعب على شكل صاروخ", "rocket shaped play tent"),
    ("fr", "coque samsung s21 motif cactus", "samsung s21 case with cactus pattern"),
    ("pl", "drewniany zegar z kukułką", "wooden cuckoo clock"),
    ("th", "ที่ดักแมลงวันผลไม้", "fruit fly trap"),
    ("vn", "mũ len hình con cua", "crab shaped wool hat"),
    ("id", "tempat pensil kayu 3 laci", "wooden pencil holder with 3 drawers"),
    ("ko", "왼손잡이용 가위 초등학생", "left-handed scissors for elementary school students"),
)
MAX_NEW_TOKENS = 128


class FewShot:
    """A causal model (a Hub id, a folder or `embedded:gemma-3-270m`) as an engine of `translators`.

    Args:
        model: Hub id, folder or embedded base.
        revision: Commit, tag or branch on the Hub.
        dtype: auto, float32, bfloat16, float16.
        device: cpu, cuda, cuda:1; by default a GPU when there is one.

    Raises:
        ValueError: No such model.
    """

    name = "llm"
    batch_size = 16
    prompt_marks = tuple(f"{language.lower()}:" for language in LANGUAGES.values())

    def __init__(self, model: str, revision: str | None = None, *, dtype: str = "auto", device: str | None = None):
        self.checkpoint = checkpoints.open_checkpoint(model, revision)
        self.tokenizer = checkpoints.load_tokenizer(self.checkpoint)
        self.device = checkpoints.choose_device(device)
        self.dtype = checkpoints.choose_dtype(dtype, self.device)
        self._prefixes: dict[bool, tuple[list[int], Cache]] = {}

    @property
    def settings(self) -> dict[str, object]:
        """What a translation depends on beside the text and the languages."""
        prompt = sha256((HEADER + "".join(map(str, SHOTS))).encode()).hexdigest()[:16]
        return self.checkpoint.settings | {"engine": self.name, "options": {"dtype": self.dtype, "prompt": prompt}}

    @property
    def prompt_answers(self) -> frozenset[str]:
        """The examples' own texts: as a translation they are copied."""
        return frozenset(text for _, *sides in SHOTS for text in sides)

    def supports(self, source: str, target: str) -> bool:
        """Any source will do; a target needs a name."""
        return target in LANGUAGES

    def translate(self, texts: list[str], sources: list[str], targets: list[str]) -> list[str]:
        """Translate one batch, greedily, up to the end of the line.

        Args:
            texts: Some hundred characters each at most, without line breaks.
            sources: Their languages, in codes of the competition.
            targets: The languages to translate into: all `en`, or none.

        Returns:
            One translation a text.
        """
        into_english = targets[0] == "en"
        asked = zip(texts, sources, targets, strict=True)
        suffixes = [self._ids(f"{_name(source)}: {text}\n{_name(target)}:") for text, source, target in asked]
        limits = [min(MAX_NEW_TOKENS, 2 * len(self._ids(text)) + 16) for text in texts]
        rows = self._greedy(into_english, suffixes, limits)
        return [self.tokenizer.decode(row, skip_special_tokens=True).split("\n")[0].strip() for row in rows]

    @cached_property
    def model(self) -> Any:  # of any architecture
        """The weights, loaded at first use: what the cache holds needs none."""
        from transformers import AutoModelForCausalLM

        return checkpoints.load_model(AutoModelForCausalLM, self.checkpoint, self.device, self.dtype)

    @cached_property
    def _stops(self) -> list[int]:
        """Ids that end the line or the text."""
        vocabulary = self.tokenizer.get_vocab().items()
        lines = [i for token, i in vocabulary if "\n" in token or "Ċ" in token or token == "<0x0A>"]
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return [i for i in [*lines, *ends, self.tokenizer.eos_token_id] if i is not None]

    @cached_property
    def _arguments(self) -> set[str]:
        return set(inspect.signature(self.model.forward).parameters)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _prefix(self, into_english: bool) -> "tuple[list[int], Cache]":
        """The ids and the keys and values of what all prompts begin with, computed once."""
        import torch

        if into_english not in self._prefixes:
            text = HEADER + "".join(
                f"{_name(code)}: {foreign}\nEnglish: {english}\n\n"
                if into_english
                else f"English: {english}\n{_name(code)}: {foreign}\n\n"
                for code, foreign, english in SHOTS
            )
            start = self.tokenizer.bos_token_id
            ids = [*([] if start is None else [start]), *self._ids(text)]
            with torch.inference_mode():
                state = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=True)
            self._prefixes[into_english] = ids, state.past_key_values
        return self._prefixes[into_english]

    def _greedy(self, into_english: bool, suffixes: list[list[int]], limits: list[int]) -> list[list[int]]:
        """Continue prefix + suffix, the suffixes padded on the left, each row until a stop or its own limit."""
        prefix, cache = self._prefix(into_english)
        longest = len(prefix) + max(map(len, suffixes)) + max(limits)
        if longest > (getattr(self.model.config.get_text_config(), "sliding_window", None) or longest):
            # Pads between prefix and suffix would push the prefix out of the window: whole prompts instead.
            return self._continue([], None, [prefix + suffix for suffix in suffixes], limits)
        cache = copy.deepcopy(cache)
        cache.batch_repeat_interleave(len(suffixes))
        return self._continue(prefix, cache, suffixes, limits)

    def _continue(
        self, prefix: list[int], cache: "Cache | None", suffixes: list[list[int]], limits: list[int]
    ) -> list[list[int]]:
        """Continue each row up to its end; rows that have ended leave the batch once they are a quarter of it."""
        import torch

        width = max(map(len, suffixes))
        pads = [width - len(suffix) for suffix in suffixes]
        rows = [[0] * pad + suffix for pad, suffix in zip(pads, suffixes, strict=True)]
        ids = torch.tensor(rows, device=self.device)
        seen = [[1] * len(prefix) + [0] * pad + [1] * (width - pad) for pad in pads]
        mask = torch.tensor(seen, device=self.device)
        stops = torch.tensor(self._stops, device=self.device)
        left, places = torch.tensor(limits, device=self.device), torch.arange(len(suffixes))
        made: list[list[int]] = [[] for _ in suffixes]
        with torch.inference_mode():
            while True:
                logits, cache = self._step(ids, mask, cache)
                ids = logits.argmax(-1, keepdim=True)
                for place, token in zip(places.tolist(), ids[:, 0].tolist(), strict=True):
                    made[place].append(token)
                left = torch.where(torch.isin(ids[:, 0], stops), 0, left - 1)
                (going,) = torch.where(left > 0)
                if not len(going):
                    break
                mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
                if len(going) <= 0.75 * len(left):
                    cache.batch_select_indices(going)
                    ids, mask, left, places = ids[going], mask[going], left[going], places[going.cpu()]
        return [_until(row, set(self._stops), limit) for row, limit in zip(made, limits, strict=True)]

    def _step(self, ids: "torch.Tensor", mask: "torch.Tensor", cache: "Cache | None") -> "tuple[torch.Tensor, Cache]":
        options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self._arguments else {}
        if "position_ids" in self._arguments:
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        state = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **options)
        return state.logits[:, -1], state.past_key_values


def _name(code: str) -> str:
    return LANGUAGES.get(code, "Query")


def _until(row: list[int], stops: set[int], limit: int) -> list[int]:
    # The stop itself may hold words before the line break, as `.\n` does: it is kept.
    end = next((i + 1 for i, token in enumerate(row) if token in stops), limit)
    return row[: min(end, limit)]
