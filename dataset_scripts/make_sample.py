"""Compose the hand-written sample data set from sample/concepts.yaml in the competition's file format.

Run: python dataset_scripts/make_sample.py --concepts sample/concepts.yaml --out sample
"""

import csv
import json
import random
import re
from itertools import cycle, product
from pathlib import Path

import yaml

from product_relevance.utils.options import Parser
from product_relevance.utils.tasks import TARGET_FIELD

SEED = 2025
LANGUAGES = ["en", "es", "fr", "ja", "ko", "pt", "th", "ar", "de", "id", "it", "pl", "vn"]
TRAIN_LANGUAGES = {"QC": LANGUAGES[:6], "QI": LANGUAGES[:7]}
HELD_OUT = {"test": 13, "dev": 10}  # queries a language set aside for both tasks; train gets the rest
QUOTA = {  # queries taken a language; in train English gets more, as the mislabelled queries hide there
    "QC": {"train": {"en": 97, "*": 47}, "dev": {"*": 9}, "test": {"*": 11}},
    "QI": {"train": {"en": 62, "*": 28}, "dev": {"*": 6}, "test": {"*": 7}},
}
# True languages of the queries that carry the label `en`, as some rows of the competition do.
LABELLED_EN = {"train": ["es", "fr", "it", "de"], "dev": ["es", "pt"], "test": ["fr", "it", "es"]}
SHAPES = {  # (relevant, not relevant) targets per query, dealt in turn: about 0.63 of the rows are relevant
    "QC": [(2, 1), (3, 1), (2, 2), (2, 1), (3, 1), (1, 1), (2, 1), (3, 1)],
    "QI": [(2, 1), (3, 1), (2, 2), (1, 1), (2, 1), (2, 1)],
}


def read_queries(table: dict) -> list[dict]:
    """List every query of the table with the concepts that answer it and those that nearly do."""
    queries = list(table["ambiguous"])  # these get no easy negatives: a random concept might answer them
    for concept in table["concepts"]:
        noisy = [pair for extra in concept["noisy"] for pair in extra.items()]
        about = {"relevant": [concept["name"]], "hard": concept["hard"], "easy": True}
        pairs = [*concept["queries"].items(), *noisy]
        queries += [{"language": language, "query": text, **about} for language, text in pairs]
    return queries


def split_queries(queries: list[dict], rng: random.Random) -> dict[tuple[str, str], list[dict]]:
    """Give each query to one split, the same in both tasks, so that no task leaks into the other."""
    pools = {}
    for language in LANGUAGES:
        pool = [query for query in queries if query["language"] == language]
        rng.shuffle(pool)
        for split, size in HELD_OUT.items():
            pools[split, language], pool = pool[:size], pool[size:]
        pools["train", language] = pool
    return pools


def choose_queries(pools: dict, task: str, split: str) -> list[dict]:
    """Take the quota of each language, and from the far end of the pools the queries labelled `en`."""
    quota, languages = QUOTA[task][split], TRAIN_LANGUAGES[task] if split == "train" else LANGUAGES
    chosen = [query for code in languages for query in pools[split, code][: quota.get(code, quota["*"])]]
    mislabelled = LABELLED_EN[split][: 3 if task == "QI" else None]
    return chosen + [{**pools[split, language][-1], "language": "en"} for language in mislabelled]


def levels(path: str) -> list[str]:
    """Split a category path; a comma with a blank after it belongs to a level's own name."""
    return re.split(r",(?! )", path)


def targets_of(concept: dict, task: str, parent: bool = False) -> list[str]:
    """Return a concept's titles or paths, with `parent` also the main path's parent if deeper than one level."""
    above = levels(concept["path"])[:-1]
    paths = [concept["path"], *concept.get("also", [])] + [",".join(above)] * (parent and len(above) > 1)
    return paths if task == "QC" else concept["titles"]


def relevant_targets(query: dict, count: int, concepts: dict, task: str, rng: random.Random) -> list[str]:
    """Draw relevant targets; in QC the main path is always one of them."""
    targets = [target for name in query["relevant"] for target in targets_of(concepts[name], task, parent=True)]
    main, others = (targets[:1], targets[1:]) if task == "QC" else ([], targets)
    return main + rng.sample(others, min(count - len(main), len(others)))


def other_targets(query: dict, count: int, concepts: dict, task: str, rng: random.Random) -> list[str]:
    """Draw targets that are not relevant: one of a near-miss concept, one of a far concept, or both."""
    if not query.get("easy"):
        return [rng.choice(targets_of(concepts[name], task)) for name in query["hard"]]
    near = rng.choice(targets_of(concepts[rng.choice(query["hard"])], task))
    roots = {name: {levels(path)[0] for path in targets_of(concepts[name], "QC")} for name in concepts}
    far_names = [name for name in concepts if not roots[name] & roots[query["relevant"][0]]]
    far = rng.choice(targets_of(concepts[rng.choice(far_names)], task, parent=True))
    return [near, far] if count == 2 else [near if rng.random() < 0.6 else far]


def make_rows(queries: list[dict], concepts: dict, task: str, rng: random.Random) -> list[dict]:
    """Pair each query with its targets, shuffle the rows and number them from 1."""
    rng.shuffle(queries)
    rows = []
    for query, (positive, negative) in zip(queries, cycle(SHAPES[task]), strict=False):
        head = {"task": task, "language": query["language"], "origin_query": query["query"]}
        labelled = [(target, 1) for target in relevant_targets(query, positive, concepts, task, rng)]
        labelled += [(target, 0) for target in other_targets(query, negative, concepts, task, rng)]
        rows += [{**head, TARGET_FIELD[task]: target, "label": label} for target, label in labelled]
    rng.shuffle(rows)
    return [{"id": number, **row} for number, row in enumerate(rows, start=1)]


def make_files(table: dict) -> dict[str, list[dict]]:
    """Make the labelled rows of all eight files."""
    concepts = {concept["name"]: concept for concept in table["concepts"]}
    pools = split_queries(read_queries(table), random.Random(SEED))
    files = {}
    for task, split in product(QUOTA, LABELLED_EN):
        rng = random.Random(f"{SEED} {task} {split}")
        files[f"{split}_{task}"] = make_rows(choose_queries(pools, task, split), concepts, task, rng)
    return files | {f"answers_{task}": files[f"test_{task}"] for task in QUOTA}


def make_tables(table: dict) -> dict[str, list[tuple[str, str, str]]]:
    """Make the tables of translations: into English of every query, and from English of queries that no file holds."""
    english = {concept["name"]: concept["queries"]["en"] for concept in table["concepts"]}
    into = []
    for concept in table["concepts"]:
        noisy = [pair for extra in concept["noisy"] for pair in extra.items()]
        pairs = [*concept["queries"].items(), *noisy]
        into += [(text, code, english[concept["name"]]) for code, text in pairs if text != english[concept["name"]]]
    pools, out = split_queries(read_queries(table), random.Random(SEED)), []
    for code in (code for code in LANGUAGES if code not in TRAIN_LANGUAGES["QI"]):
        # the last one is labelled `en` in a training file (choose_queries)
        meant = [query for query in pools["train", code][:-1] if query.get("easy")]
        out += [(english[query["relevant"][0]], code, query["query"]) for query in meant]
    return {"into_english": into, "from_english": out}


def write_table(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write translations as CSV: the query, the other language, the translation."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("query", "language", "translation"), *rows])


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines, those of a test file without their label, with the same bytes on every system."""
    hidden = "label" if path.name.startswith("test") else None
    kept = [{key: value for key, value in row.items() if key != hidden} for row in rows]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "utf-8", newline="\n")


def count_table(files: dict[str, list[dict]]) -> str:
    """Render rows per language and the totals of each file as a Markdown table."""
    columns = [name for name in files if not name.startswith("answers")]
    lines: list[list[object]] = [["language", *columns], ["---", *["---:"] * len(columns)]]
    for code in LANGUAGES:
        lines += [[code, *(sum(row["language"] == code for row in files[name]) for name in columns)]]
    lines += [["rows", *(len(files[name]) for name in columns)]]
    lines += [["relevant rows", *(sum(row["label"] for row in files[name]) for name in columns)]]
    lines += [["distinct queries", *(len({row["origin_query"] for row in files[name]}) for name in columns)]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", type=Path, default="sample/concepts.yaml", help="hand-written table")
    parser.add_argument("--out", type=Path, default="sample", help="folder for the files")
    options = parser.parse_args()
    table = yaml.safe_load(options.concepts.read_text("utf-8"))
    files = make_files(table)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        write_rows(options.out / f"{name}.txt", rows)
    for name, translations in make_tables(table).items():
        write_table(options.out / f"{name}.csv", translations)
    print(f"wrote {len(files)} files and 2 tables to {options.out}\n\n{count_table(files)}")


if __name__ == "__main__":
    main()
