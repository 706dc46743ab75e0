"""The append-only file of what persons and filters decided about rows; the last decision on a row counts."""

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.provenance import METHODS
from product_relevance.utils.files import json_line
from product_relevance.utils.run_folder import current_time

logger = logging.getLogger(__name__)

DECISIONS = ("accept", "flip", "drop", "down_weight")
UNDO = "undo"  # takes the row's decision back: the row counts as undecided again
# Rows made from another one that have its query and its label, so that what holds for the source holds for them.
COPIES = ("translated", "back_translated", "noise")
MINED = "".join(tag for method, tag in METHODS.items() if method not in COPIES)
_LOCK = threading.Lock()  # two tabs of one page append to one file


@dataclass(frozen=True)
class Decision:
    """What was decided about one row.

    Attributes:
        id: Of the row.
        decision: "accept" (the label is right), "flip", "drop", "down_weight", or "undo".
        label: The label that was seen, 0 or 1: a flip is done once only, however often it is applied.
        weight: For "down_weight": what the row's loss is multiplied by, 0 to 1.
        by: Who decided, a person or a filter.
        time: When, UTC.
    """

    id: int | str
    decision: str
    label: int
    weight: float | None = None
    by: str = ""
    time: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the decision as the file holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> "Decision":
        """Read a decision.

        Args:
            values: As the file holds them; only id, decision and label are needed.
            where: For error messages.

        Raises:
            ValueError: Another decision, label or weight.
        """
        _check(values, where)
        texts = {name: str(values.get(name) or "") for name in ("by", "time")}
        return cls(values["id"], values["decision"], int(values["label"]), values.get("weight"), **texts)


def make_decision(row_id: int | str, decision: str, label: int, by: str, weight: float | None = None) -> Decision:
    """Make one decision, as of now.

    Args:
        row_id: id of the row.
        decision: See `Decision`.
        label: The label that was seen, 0 or 1.
        by: Who decided, a person or a filter.
        weight: For "down_weight": 0 to 1.

    Returns:
        The decision.

    Raises:
        ValueError: Another decision, label or weight.
    """
    row_id = row_id.item() if isinstance(row_id, np.generic) else row_id
    made = {"id": row_id, "decision": decision, "label": int(label), "weight": weight, "by": by}
    return Decision.from_json(made | {"time": current_time()}, "decision")


def append_decisions(path: str | os.PathLike, made: Iterable[Decision]) -> None:
    """Add decisions to the end of the file, on the disk before this returns; a torn last line is removed first."""
    data = b"".join(json_line(decision.to_json()) for decision in made)
    with _LOCK:
        torn = _mend(Path(path)) if Path(path).exists() else b""
        with open(path, "ab", buffering=0) as file:
            file.write(torn + data)
            os.fsync(file.fileno())


def read_decisions(path: str | os.PathLike) -> dict[str, Decision]:
    """Read the decisions that stand.

    Args:
        path: A decisions file; one that does not exist yet holds none.

    Returns:
        str(id) to its last decision, the most recent one last. Undone ones are not among them.

    Raises:
        ValueError: A line is no decision. A last line without its newline that cannot be read is what a killed
            writer leaves: it is ignored with a warning.
    """
    path = Path(path)
    *lines, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if last and _parsed(last) is None:
        logger.warning("%s: the last line is torn and is ignored: %d bytes", path, len(last))
        last = b""
    standing: dict[str, Decision] = {}
    for number, line in enumerate([*lines, last], start=1):
        if not line.strip():
            continue
        decision = _decision(line, f"{path}:{number}")
        key = str(decision.id)
        standing.pop(key, None)  # else the row would keep its old place in the order
        if decision.decision != UNDO:
            standing[key] = decision
    return standing


def apply_decisions(frame: pd.DataFrame, decisions: Mapping[str, Decision]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Apply decisions to records; doing it twice changes nothing more.

    A decision on a row also holds for its translations and noisy copies (`source_row`, `method`), not for the
    negatives that were mined for its query; their copies go with them.

    Args:
        frame: Records with id and label, and if any with weight, method and source_row.
        decisions: From `read_decisions`, or str(id) to a decision from `make_decision`.

    Returns:
        (a new frame with `weight`, 1.0 where nothing was decided; counts of rows: accepted, flipped,
        already_flipped, dropped, down_weighted).

    Raises:
        ValueError: Decisions on ids that the frame does not have, or a frame without labels.
    """
    frame = frame.copy()
    _require(frame, decisions)
    keys = _decided_ids(frame)
    decision, seen, weight = (
        keys.map({key: getattr(made, field) for key, made in decisions.items()})
        for field in ("decision", "label", "weight")
    )
    flips = (decision == "flip").to_numpy(dtype=bool)
    again = flips & (frame["label"] != seen.astype("float64")).fillna(True).to_numpy(dtype=bool)
    dropped, lighter = (decision == "drop").to_numpy(dtype=bool), (decision == "down_weight").to_numpy(dtype=bool)
    frame.loc[flips & ~again, "label"] = 1 - frame.loc[flips & ~again, "label"]
    weights = frame["weight"].astype("float64") if "weight" in frame else pd.Series(1.0, index=frame.index)
    frame["weight"] = weights.where(~lighter, np.minimum(weights, weight.astype("float64")))
    counts = {"accepted": int((decision == "accept").sum()), "flipped": int((flips & ~again).sum())}
    counts |= {"already_flipped": int(again.sum()), "dropped": int(dropped.sum())}
    return frame[~dropped].reset_index(drop=True), counts | {"down_weighted": int(lighter.sum())}


def _require(frame: pd.DataFrame, decisions: Mapping[str, Decision]) -> None:
    if "label" not in frame:
        raise ValueError("records: found no labels, expected the labelled records that the decisions are about")
    known = set(frame["id"].astype(str))
    unknown = [key for key in decisions if key not in known]
    if unknown:
        raise ValueError(
            f"decisions: {len(unknown)} of {len(decisions)} name an id that the records do not have (first: "
            f"{', '.join(unknown[:5])}), expected decisions on these records; give the records that were reviewed, "
            "or take those lines out of the decisions file"
        )


def _decided_ids(frame: pd.DataFrame) -> pd.Series:
    own = frame["id"].astype(str)
    if not {"method", "source_row"} <= set(frame):
        return own
    # `17#h1#n1` is a noisy copy of the mined negative 17#h1, whose label says nothing about the row 17.
    mined = own.str.extract(rf"^(.*#[{MINED}]\d+)(?:#[a-z]\d+)*$", expand=False)
    copied = mined.fillna(frame["source_row"].astype(str))
    return own.where(~frame["method"].isin(COPIES), copied)


def _mend(path: Path) -> bytes:
    """Remove a torn last line; return the newline that a whole one lacks."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return b""
    if _parsed(content[whole:]) is not None:
        return b"\n"
    logger.warning("%s: the last line was torn and is removed: %d bytes", path, len(content) - whole)
    os.truncate(path, whole)
    return b""


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _decision(line: bytes, where: str) -> Decision:
    found = _parsed(line)
    if found is None:
        raise ValueError(
            f"{where}: found {line[:60]!r}, expected a JSON object with id and decision; correct the line"
        )
    return Decision.from_json(found, where)


def _check(made: Mapping[str, Any], where: str) -> None:
    if not isinstance(made.get("id"), int | str):
        raise ValueError(f"{where}: found id {made.get('id')!r}, expected the id of a row")
    if made.get("decision") not in (*DECISIONS, UNDO):
        expected = ", ".join((*DECISIONS, UNDO))
        raise ValueError(f"{where}: found decision {made.get('decision')!r}, expected one of {expected}")
    if made.get("label") not in (0, 1):
        raise ValueError(f"{where}: found label {made.get('label')!r}, expected the label that was seen, 0 or 1")
    weight = made.get("weight")
    fits = isinstance(weight, int | float) and 0 <= weight <= 1
    if made["decision"] == "down_weight" and not fits:
        raise ValueError(f"{where}: found weight {weight!r}, expected a number from 0 to 1 for down_weight")
