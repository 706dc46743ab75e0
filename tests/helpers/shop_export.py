"""A made-up shop's export: German, English and Turkish queries with titles, as its database writes them."""

import csv
import random
from pathlib import Path

# Of each language: its locale, adjectives, and things with a thing that may stand in for each.
SHOP = {
    "de_DE": (
        ["rote", "schwarze", "günstige", "große", "leichte", "wasserdichte"],
        {"Damenschuhe": "Sandalen", "Straßenlampe": "Glühbirne", "Kopfhörer": "Lautsprecher", "Jacke": "Weste"},
    ),
    "en_GB": (
        ["red", "black", "cheap", "large", "light", "waterproof"],
        {"women's shoes": "sandals", "street lamp": "light bulb", "headphones": "speaker", "jacket": "vest"},
    ),
    "tr_TR": (
        ["kırmızı", "siyah", "ucuz", "büyük", "hafif", "su geçirmez"],
        {"kadın ayakkabısı": "sandalet", "sokak lambası": "ampul", "kulaklık": "hoparlör", "ceket": "yelek"},
    ),
}
BINARY = {"exact": "true", "other": "true", "near": "false", "wrong": "false"}
GRADES = {"exact": "3", "other": "2", "near": "1", "wrong": "0"}
ESCI = {"exact": "E", "other": "S", "near": "C", "wrong": "I"}


def write_export(path: Path, rows: int = 3000, seed: int = 0, labels: dict[str, str] = BINARY) -> Path:
    """Write an export with semicolons between and a byte order mark, as spreadsheets of Europe do.

    A pair is exact, differs in the adjective, names a thing near to it, or another thing.
    """
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["sku", "search_term", "product_title", "judgement", "locale"])
        for number in range(rows):
            locale = draw.choice(list(SHOP))
            adjectives, things = SHOP[locale]
            adjective, thing, kind = draw.choice(adjectives), draw.choice(list(things)), draw.choice(list(labels))
            named = {"near": things[thing], "wrong": draw.choice([one for one in things if one != thing])}
            quality = draw.choice([one for one in adjectives if one != adjective]) if kind == "other" else adjective
            title = f"{named.get(kind, thing)}, {quality}; Modell {draw.randrange(1000)}"
            query = f"{adjective} {thing} {draw.randrange(rows // 10)}"
            table.writerow([f"{locale[3:]}-{number:05d}", query, title, labels[kind], locale])
    return path
