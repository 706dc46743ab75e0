"""Records with columns and folds to make rows from, and stand-ins for an encoder and a translator."""

import hashlib

import numpy as np
import pandas as pd

from product_relevance.data.folds import assign_folds

ODD = [  # what users type: one script after the other, marks, emoji, very long texts
    "زجاج حماية شاشة الهاتف",
    "เคสโทรศัพท์มือถือกันกระแทก",
    "レディース 赤い靴 大きいサイズ",
    "여성 겨울 운동화 할인",
    "👩‍👩‍👧‍👦 family poster 🇩🇪",
    "🔥",
    "a",
    "12345 67-89",
    "nïño " * 2000,
    "สีแดง" * 2000,
]
WORDS = ["sandalen", "rucksack", "lampe", "kühlung", "zapatos", "gürtel", "matten"]


def query_text(number: int) -> str:
    """The query of that number."""
    return f"thing{number} {WORDS[number % 7]} {WORDS[number // 7 % 7]}"


def prepared(rows: int = 240, seed: int = 0, task: str = "QC", group_by: str = "query") -> pd.DataFrame:
    """Made-up prepared records; paths form a tree in which inner nodes are targets too."""
    rng = np.random.default_rng(seed)
    query, language = rng.integers(0, max(1, rows // 2), rows), np.array(["en", "es", "fr", "ja"])
    roots, mids, leaves = (rng.integers(0, size, rows) for size in (5, 4, 4))
    depths = 1 + np.arange(rows) % 3
    names = zip(roots, mids, leaves, depths, strict=True)
    paths = [",".join([f"root{a}", f"mid{b} of {a}", f"leaf{c}, small"][:depth]) for a, b, c, depth in names]
    titles = [f"thing{q} of brand{a} in colour{b}" for q, a, b in zip(query, roots, mids, strict=True)]
    texts = [query_text(q) for q in query]
    frame = pd.DataFrame(
        {
            "id": np.arange(1, rows + 1),
            "task": task,
            "language": language[query % 4],
            "given_language": language[query % 4],
            "origin_query": texts,
            "target": paths if task == "QC" else titles,
            "label": pd.array(rng.random(rows) < 0.7, dtype="Int8"),
            "query": texts,
            "clean_target": paths if task == "QC" else titles,
            "translated_query": [f"english{q} word" for q in query],
        }
    )
    frame = frame.drop_duplicates(["origin_query", "target"], ignore_index=True)
    return frame.assign(fold=assign_folds(frame, 3, group_by))


def with_odd_queries(frame: pd.DataFrame) -> pd.DataFrame:
    """Put the odd queries, and an empty one, into the first rows."""
    odd = [*ODD, ""]
    texts = odd + frame["query"].tolist()[len(odd) :]
    frame = frame.assign(origin_query=texts, query=texts, translated_query=texts)
    return frame.assign(fold=assign_folds(frame, 3))


def encode(texts, side: str) -> np.ndarray:
    """Stand in for a sentence encoder: texts that share words lie near each other."""
    vectors = np.full((len(texts), 48), 0.05, np.float32)
    for vector, text in zip(vectors, texts, strict=True):
        for word in text[:500].replace(",", " ").split():
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            vector[[digest[0] % 48, digest[1] % 48, digest[2] % 48]] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def translate(texts, codes) -> list[str]:
    """Stand in for a translator."""
    return [f"{code} {text[::-1]}" for text, code in zip(texts, codes, strict=True)]
