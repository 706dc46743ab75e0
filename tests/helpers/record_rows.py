"""Small valid records to change, for the tests of the reader."""

import json

ROW = {
    "id": 1,
    "task": "QC",
    "language": "es",
    "origin_query": "zapatos rojos",
    "category_path": "shoes,women's shoes",
    "label": 1,
}


def rows_of(*changes, task="QC"):
    """Valid rows with ids 1, 2, ... and distinct queries, each with its changes; None as a value is null."""
    rows = []
    for number, change in enumerate(changes, start=1):
        row = ROW | {"id": number, "task": task, "origin_query": f"query {number}"}
        if task == "QI":
            row["item_title"] = row.pop("category_path")
        rows.append(row | change)
    return rows


def write_lines(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def without(field, row=ROW):
    return {name: value for name, value in row.items() if name != field}
