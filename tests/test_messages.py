"""Every flag that a message names exists in the command that prints it, or the message names the one that has it."""

import re
import tomllib
from functools import cache

import pytest

from tests.conftest import ROOT
from tests.helpers.programs import programs
from tests.helpers.reachable import PACKAGE, file_of, reached, texts, units

FOREIGN = {"torchrun": {"--nproc_per_node"}, "vllm serve": {"--runner"}}
# What is no message: options for Streamlit, words of a launcher, words that are refused, options for a training.
NO_MESSAGES = {
    ("preparation.labels.review_server", "start_page"),
    ("utils.recipes", "split_recipe"),
    ("push_to_hub", "parse_arguments"),
    ("benchmarks.speed.bench_shards", "make_run"),
}

TRAIN, PREDICT, EVALUATE, DECIDE, STACK, COMPARE = (
    "train_relevance.py",
    "relevance predict",
    "relevance evaluate",
    "relevance decide",
    "relevance stack",
    "relevance compare",
)
# They have the class of an ensemble, and read no records to score with it.
WITHOUT_RECORDS = {
    "relevance rank",
    "relevance demo",
    "relevance serve",
    "relevance export",
    "relevance info",
    "relevance take",
    "push_to_hub.py",
}
# They read files of this package alone: submissions, and records that were prepared.
WITHOUT_COLUMNS = {"relevance zip", "augment.py", "mine_negatives.py"} | WITHOUT_RECORDS - {"relevance rank"}
COLUMNS = {
    *("data.sources.column_map", "data.sources.labels", "data.sources.scales", "data.sources.record_fields"),
    *("data.sources.encodings", "data.sources.dialects", "data.reading_arguments"),
}
READING = {"data.sources.readers", "data.records", "data.translations", "data.loading"}
# Where more is reached than runs, by (module, unit, flag): the programs that can print it, and why the others cannot.
ONLY = {
    # A run that exists passed these when it was trained; loading it asks the same again.
    ("models.modeling", "_read_weights", "--head"): {TRAIN},
    ("models.modeling", "_read_weights", "--stage"): {TRAIN},
    ("models.heads.yes_no", "require_causal", "--head"): {TRAIN},
    ("models.heads.pooling", "PooledClassifier", "--pooling"): {TRAIN},
    ("models.heads.prompt_tokens", "_texts", "--chat_template"): {TRAIN},
    ("models.heads.prompt_tokens", "use_prompt", "--max_length"): {TRAIN},
    # The others read with "skip".
    ("data.records", "_settle", "--on_bad_rows"): {
        TRAIN,
        *(PREDICT, EVALUATE, DECIDE, STACK, COMPARE, "relevance review"),
        *("prepare.py", "filter.py", "augment.py", "mine_negatives.py"),
    },
    # The others read no translations.
    ("data.loading", "add_run_columns", "--translation"): {TRAIN, PREDICT, EVALUATE, DECIDE, STACK, COMPARE},
    ("data.translations", "_require_most", "--max_missing_translations"): {
        *(TRAIN, PREDICT, EVALUATE, DECIDE, STACK, COMPARE, "prepare.py"),
    },
    # The others give those fields no flag, so that each keeps its default, which is in range.
    ("data.arguments", "ColumnArguments", "--max_missing_translations"): {
        *(TRAIN, PREDICT, EVALUATE, DECIDE, STACK, COMPARE, "prepare.py"),
    },
    ("data.arguments", "FoldArguments", "--num_folds"): {TRAIN, "prepare.py"},
    ("data.arguments", "FoldArguments", "--prefix_levels"): {TRAIN, "prepare.py", "mine_negatives.py"},
    ("data.arguments", "FoldArguments", "--group_by"): {TRAIN, "prepare.py", "mine_negatives.py"},
    # The others ask for no reasoning, and for no vote.
    ("ensemble.base_model", "load_base", "--reasoning_tokens"): {PREDICT},
    ("ensemble.scoring_arguments", "ScoringArguments", "--reasoning_tokens"): {PREDICT},
    # `predict` exports for vLLM: no graph, a fold that exists, a head that was checked before.
    ("serving.export.export_options", "ExportOptions", "--onnx"): {"relevance export"},
    ("serving.export.onnx_export", "write_graph", "--onnx"): {"relevance export"},
    ("serving.export.onnx_export", "_trace", "--onnx"): {"relevance export"},
    ("serving.export.onnx_export", "require_onnx", "--onnx"): {"relevance export"},
    ("serving.export.transformers_export", "_load_merged", "--fold"): {"relevance export"},
    ("serving.export.transformers_export", "_require_exportable_head", "--onnx"): {"relevance export"},
    # The benchmark of vLLM always scores with it.
    ("serving.engines.engine_process", "require_vllm", "--engine"): {PREDICT},
    ("serving.engines.engine_process", "EngineProcess", "--engine"): {PREDICT},
    # `compare` compiles nothing.
    ("ensemble.scoring_arguments", "ScoringArguments", "--compile"): {PREDICT, EVALUATE},
    ("ensemble.scoring_arguments", "ScoringArguments", "--compile_layers"): {PREDICT, EVALUATE},
    ("ensemble.scoring_arguments", "_compile", "--compile"): {PREDICT, EVALUATE},
    ("ensemble.scoring_arguments", "_compile", "--compile_layers"): {PREDICT, EVALUATE},
    ("models.compiled_layers", "compile_layers", "--compile"): {PREDICT, EVALUATE},
    ("models.compiled_layers", "compile_layers", "--compile_layers"): {PREDICT, EVALUATE},
    # The others decide at the thresholds of a run, by their names.
    ("evaluation.decision_rule", "DecisionRule", "--threshold"): {PREDICT, EVALUATE, COMPARE},
    ("ensemble.stack", "RelevanceStack", "--vote"): {PREDICT, EVALUATE},
    # `relevance stack` shows differences and asks for none of a size.
    ("evaluation.comparison", "Comparison", "--measure"): {COMPARE},
    # A training and `take` call the names ranking_measures.
    ("evaluation.ranking", "parse_measures", "--measures"): {EVALUATE, "relevance rank"},
    # `taxonomy_pairs.py` looks at the records of --like, whose level names are those that they show.
    ("text.path_format", "_read_names", "--level_names"): {TRAIN, "prepare.py", "mine_negatives.py", "explore.py"},
    ("utils.run_folder", "check_shared", "--output_dir"): {
        TRAIN
    },  # `take` joins the folds of one run, which are alike
}


@cache
def messages(unit) -> list[tuple[str, frozenset[str]]]:
    found = ((text, frozenset(re.findall(r"(?<![\w-])--[a-z]\w+", text))) for text in texts(unit))
    return [(text, flags - {"--flag"}) for text, flags in found if flags]


def named(text: str) -> set[str]:
    """The flags of the programs that a message names."""
    known = {name: flags for name, (flags, _) in programs().items()} | FOREIGN
    return set().union(*(flags for name, flags in known.items() if name in text))


def can_print(place: tuple[str, str], flag: str, program: str) -> bool:
    module, unit = place[0].removeprefix(f"{PACKAGE}."), place[1]
    if (module, unit) in NO_MESSAGES or (module in READING and program in WITHOUT_RECORDS):
        return False
    if module in COLUMNS and program in WITHOUT_COLUMNS:
        return False
    return program in ONLY.get((module, unit, flag), {program})


def judged(place: tuple[str, str], program: str) -> bool:
    """Benchmarks print what they say themselves; what they reach is judged with the program that it is made for."""
    start = programs()[program][1][0]
    return not start.startswith("benchmarks.") or place[0] == start


@pytest.mark.parametrize("program", sorted(programs()))
def test_a_message_names_flags_of_the_command_that_prints_it(program):
    flags, start = programs()[program]
    missing = [
        f"{place[0]}.{place[1]}: {flag} in {text!r}"
        for place, unit in reached([start]).items()
        if judged(place, program)
        for text, asked in messages(unit)
        if " " in text or not start[0].startswith("benchmarks.")  # which start other programs, word by word
        for flag in sorted(asked - flags - named(text))
        if can_print(place, flag, program)
    ]
    assert not missing, f"{program} has no such flag; add it, or name the program that has it:\n" + "\n".join(missing)


def test_a_message_that_no_command_reaches_names_flags_that_exist():
    known = set().union(*(flags for flags, _ in programs().values()), *FOREIGN.values())
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, unit in units(module).items():
            unknown = set().union(*(flags for _, flags in messages(unit))) - known
            place = module.removeprefix(f"{PACKAGE}."), name
            assert not unknown or place in NO_MESSAGES, f"{place}: {unknown}"


def test_the_walk_reaches_what_a_command_imports_late():
    assert ("product_relevance.data.records", "_settle") in reached(
        [("product_relevance.cli.scoring", "evaluate_rows")]
    )


def test_every_exception_is_a_place_that_names_the_flag():
    for module, name, flag in ONLY:
        flags = set().union(*(flags for _, flags in messages(units(f"{PACKAGE}.{module}")[name])))
        assert flag in flags, (module, name, flag)


def test_every_extra_that_a_message_installs_exists():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / PACKAGE).rglob("*.py"))
    asked = set(re.findall(r"how_to_install\('(\w+)'\)", sources))
    assert len(asked) == 8 and asked <= extras
    assert file_of(f"{PACKAGE}.utils.extras") and "pip install 'product-relevance" not in sources
