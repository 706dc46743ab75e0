"""The steps of a data recipe: the options of each method, checked when they are given, and the call that runs it."""

import os
from dataclasses import dataclass, fields

import pandas as pd

from product_relevance.data.columns import fingerprint
from product_relevance.data.sources.readers import read_table
from product_relevance.data.sources.tables import Source
from product_relevance.models.loading.checkpoints import asked_dtype
from product_relevance.preparation.augmentation import negative_candidates, negatives, noise, translated_rows
from product_relevance.preparation.labels import label_errors
from product_relevance.preparation.labels.filter import Filter
from product_relevance.preparation.translation import translator as translators
from product_relevance.text.language_codes import normal_code
from product_relevance.utils.files import sha256_of
from product_relevance.utils.options import RaisingParser, option, read_options, required
from product_relevance.utils.other_names import require_known

ENGINES = ["seq2seq", "llm", "table"]


@dataclass(kw_only=True)
class Translate:
    """English translations of the queries, by an engine."""

    engine: str = required("kind of translator; llm: any causal model, by examples", [*ENGINES, "none"])
    model: str | None = option(None, "the translator: Hub id, folder, embedded:gemma-3-270m; for table its path")
    revision: str | None = option(None, "commit, tag or branch of the model on the Hub")
    skip: list[str] = option(["english", "codes"], "texts that stay as they are: english, codes")
    batch_size: int | None = option(None, "texts at a time; by default it depends on the engine")
    backend: str = option("auto", "seq2seq: library that runs it", ["auto", "ctranslate2", "transformers"])
    dtype: str = option("auto", "precision: auto, float32, bfloat16; with ctranslate2 also int8")
    device: str | None = option(None, "cpu, cuda, cuda:1; by default a GPU if there is one")

    def __post_init__(self):
        translators.check_options(self.engine, self.model, self.skip)
        self.dtype = asked_dtype(self.dtype)

    def load(self, from_english: bool = False):
        """Return the translator into English, or from it."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return translators.load_translator(**options, from_english=from_english)


@dataclass(kw_only=True)
class _FromEnglish:
    engine: str = required("kind of translator; llm: any causal model, by examples", ENGINES)
    model: str = required(
        "Hub id, folder, embedded:gemma-3-270m; or a table: query, language (into which), translation"
    )
    revision: str | None = option(None, "commit, tag or branch of the model on the Hub")
    share: float = option(0.1, "rows to add per language, as a share of the originals")
    seed: int = option(42, "another seed takes other rows")

    def translator(self):
        if self.engine == "table":
            return translated_rows.from_language_table(self.model)
        return translators.load_translator(self.engine, self.model, revision=self.revision, from_english=True)


@dataclass(kw_only=True)
class Languages(_FromEnglish):
    """Queries translated into languages that the rows lack."""

    languages: list[str] = option([], "languages to translate into: CODE or CODE=SHARE")
    like: str | None = option(None, "records; translate into the languages that they have and the file lacks")
    cap: int | None = option(None, "rows per language at most")
    text: str = option("english", "text to translate: the English one, or the query", ["english", "query"])

    def __post_init__(self):
        if bool(self.languages) == bool(self.like):
            raise ValueError("give either languages or like: which languages to translate into")
        translated_rows.check_options(self.text, {"a language": self.share} | self._given(), self.cap)

    def __call__(self, frame: pd.DataFrame, prepared) -> pd.DataFrame:
        options = {"text": self.text, "cap": self.cap, "lowercase": prepared.lowercase, "seed": self.seed}
        return translated_rows.add_languages(frame, self.translator(), self._shares(frame, prepared.task), **options)

    def _given(self) -> dict[str, float]:
        pairs = [word.partition("=") for word in self.languages]
        try:
            return {normal_code(code): float(share) if share else self.share for code, _, share in pairs}
        except ValueError:
            found = " ".join(self.languages)
            raise ValueError(f"languages: found {found}, expected codes, or as de=0.1") from None

    def _shares(self, frame: pd.DataFrame, task: str) -> dict[str, float]:
        from product_relevance.data.records import read_records

        if not self.like:
            return self._given()
        other = read_records(self.like, task=task, role="test", on_bad_rows="skip")
        return dict.fromkeys(translated_rows.missing_languages(frame, other), self.share)


@dataclass(kw_only=True)
class Back(_FromEnglish):
    """Queries translated from English back into their language."""

    pivot: str | None = option(None, "language that English queries are translated to and back from")
    into_english: str | None = option(None, "model of the same engine that translates the pivot into English")

    def __post_init__(self):
        translated_rows.check_options("english", {"rows": self.share}, None)
        self.pivot = self.pivot and normal_code(self.pivot)
        if bool(self.pivot) != bool(self.into_english):
            raise ValueError("give both pivot and into_english, or none: English queries go through another language")

    def __call__(self, frame: pd.DataFrame, prepared) -> pd.DataFrame:
        back = translators.load_translator(self.engine, self.into_english) if self.into_english else None
        options = {"into_english": back, "pivot": self.pivot, "lowercase": prepared.lowercase, "seed": self.seed}
        return translated_rows.add_back_translations(frame, self.translator(), self.share, **options)


@dataclass(kw_only=True)
class Noise:
    """Typing errors, lost accents, shortened and mixed words."""

    rate: float = option(0.1, "share of the rows that get a variant")
    kinds: list[str] = option([], "kinds of noise; all by default")
    seed: int = option(42, "another seed draws other rows and places")

    def __post_init__(self):
        noise.check_options(self.rate, self.kinds)

    def __call__(self, frame: pd.DataFrame, prepared) -> pd.DataFrame:
        return noise.add_noise(frame, self.rate, self.kinds or None, lowercase=prepared.lowercase, seed=self.seed)


@dataclass(kw_only=True)
class _Negatives:
    unit: str = option("similarity", "unit of the limits", ["similarity", "quantile"])
    per_positive: int = option(1, "negatives per positive at most")
    negative_share: float | None = option(None, "stop at this share of negatives in each language")
    max_targets: int = option(20_000, "targets to take negatives from")
    encoder: str = option("embedded:e5-small", "this encoder, a sentence-transformers folder, or a Hub id")
    encoder_revision: str | None = option(None, "commit, tag or branch of the encoder on the Hub")
    prefixes: tuple[str, str] | None = option(None, 'texts before queries and before targets: "query: " "passage: "')
    seed: int = option(42, "another seed draws other negatives")

    def __post_init__(self):
        self.plan("query", 2)

    def plan(self, group_by: str, prefix_levels: int) -> negative_candidates.Plan:
        shared = {name: getattr(self, name) for name in ("per_positive", "negative_share", "max_targets", "seed")}
        return negative_candidates.Plan(group_by=group_by, prefix_levels=prefix_levels, **shared)

    def load_encoder(self):
        from product_relevance.preparation.augmentation import sentence_encoder as encoder

        prefixes = dict(zip(encoder.SIDES, self.prefixes, strict=True)) if self.prefixes else None
        return encoder.load_encoder(self.encoder, self.encoder_revision, prefixes=prefixes)


@dataclass(kw_only=True)
class HardNegatives(_Negatives):
    """Targets that are similar to a positive's query, inside a band of similarity."""

    band: tuple[float, float] | None = option(None, "similarities of query and negative; by default e5's for the task")
    margin: float = option(0.01, "how much less similar than the positive a negative must be; -1: any")
    pool: int = option(20, "draw among so many of the nearest targets in the band; 1: take the nearest")
    veto: str | None = option(None, "trained run; targets that its ensemble finds relevant are not taken")
    veto_limit: float = option(0.5, "probability above which the ensemble of veto finds a target relevant")
    relatives: bool = option(False, "allow ancestors and descendants of positives (QC)")

    def __post_init__(self):
        super().__post_init__()
        negatives.check_limits(self.band or (), self.unit)
        if self.pool < 1:
            raise ValueError(f"pool: found {self.pool}, expected at least 1 target to draw among")

    def __call__(self, frame: pd.DataFrame, prepared) -> pd.DataFrame:
        veto = None
        if self.veto:
            from product_relevance.ensemble.ensemble import RelevanceEnsemble

            veto = RelevanceEnsemble.from_pretrained(self.veto)
        options = {name: getattr(self, name) for name in ("band", "unit", "pool", "veto_limit", "relatives")}
        options |= {"veto": veto, "margin": None if self.margin < 0 else self.margin}
        plan = self.plan(prepared.group_by, prepared.prefix_levels)
        return negatives.mine_hard_negatives(frame, self.load_encoder(), plan, **options)


@dataclass(kw_only=True)
class EasyNegatives(_Negatives):
    """Random targets: of another first level (QC), or of low similarity (QI)."""

    max_similarity: float = option(negatives.EASY_BELOW, "highest similarity of query and negative (QI)")

    def __post_init__(self):
        super().__post_init__()
        negatives.check_limits((self.max_similarity,), self.unit)

    def __call__(self, frame: pd.DataFrame, prepared) -> pd.DataFrame:
        encode = self.load_encoder() if prepared.task == "QI" else None
        plan = self.plan(prepared.group_by, prepared.prefix_levels)
        limits = {"max_similarity": self.max_similarity, "unit": self.unit}
        return negatives.mine_easy_negatives(frame, encode, plan, **limits)


# Steps by their names in a recipe; those after the first get the rows that the columns and folds were made for.
STEPS = {
    "translate": Translate,
    "languages": Languages,
    "back": Back,
    "noise": Noise,
    "hard_negatives": HardNegatives,
    "easy_negatives": EasyNegatives,
    "filter": Filter,
}
# Options that name a file, a folder or a model, with the option that gives its revision.
RECORDS, TABLES = ("file", "like"), (".csv", ".tsv", ".parquet", ".jsonl")
READ = {"model": "revision", "into_english": "", "like": "", "encoder": "encoder_revision", "veto": "", "run": ""}


def read_steps(listed: object, where: str) -> list[tuple[str, object]]:
    """Read the steps of a recipe.

    Args:
        listed: The list under `steps:`; each step is a name, or a mapping of one name to its options.
        where: The recipe, for error messages.

    Returns:
        (name, the step's options) in order.

    Raises:
        ValueError: No such step or option (with the nearest known one), or a value out of its range.
    """
    if not isinstance(listed, list):
        raise ValueError(f"{where}: steps: found {type(listed).__name__}, expected a list")
    return [_read_step(item, f"{where}: step {number}") for number, item in enumerate(listed, start=1)]


def _read_step(item: object, where: str) -> tuple[str, object]:
    item = {item: None} if isinstance(item, str) else item
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"{where}: found {item!r}, expected one name and its options, as noise: {{rate: 0.1}}")
    ((name, options),) = item.items()
    require_known(name, STEPS, where)
    kinds = (STEPS[name],)
    try:
        (step,) = RaisingParser(kinds, prog=name).parse_dict(read_options(kinds, options or {}, name))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return name, step


def contents(step: object, task: str) -> dict[str, str]:
    """Fingerprint what a step reads beside the rows, so that another content gives other rows to keep.

    Returns:
        Option to sha256 or commit, for options that name a file, a folder or a model.

    Raises:
        ValueError: There is no such thing.
    """
    named = {name: getattr(step, name) for name in READ if getattr(step, name, None)}
    if isinstance(step, EasyNegatives) and task == "QC":
        named.pop("encoder")  # paths show by themselves which are far
    found = {name: content_of(name, value, getattr(step, READ[name], None)) for name, value in named.items()}
    if isinstance(step, Filter) and not step.by_action:
        found["apply"] = sha256_of(step.apply)
    return found


def content_of(option: str, name: str | Source, revision: str | None = None) -> str:
    """Fingerprint what an option names: the sha256 of a file, folder or embedded model, or the Hub's commit.

    Args:
        option: Its name. A `run` is known by its out-of-fold scores, a `veto` by the content of its ensemble; `file`
            and `like` are records, which may be a data set of the Hub.
        name: File, folder or Hub id; records may be a `Source`.
        revision: Of a Hub id.

    Raises:
        ValueError: There is no such thing.
    """
    from product_relevance.ensemble import locate, manifest
    from product_relevance.models.loading import checkpoints

    if option in RECORDS:
        return sha256_of(name) if os.path.isfile(name) else read_table(name).sha256
    if option == "run":
        return fingerprint(label_errors.read_scores(name))
    if option == "veto":
        folder, published = locate.find_manifest(name)
        return sha256_of(folder / (manifest.NAME if published else "run.json"))
    if os.path.isfile(name):
        return sha256_of(name)
    try:
        if option == "translation" or os.path.splitext(name)[1] in TABLES:
            raise OSError("there is no such table")  # the Hub is not asked for it
        return checkpoints.checkpoint_identity(name, revision)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{option}: found {name!r}, expected a file, a folder or a model; {reason}") from None
