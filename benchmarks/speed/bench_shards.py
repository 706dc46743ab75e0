"""Score rows in shards, killed at random and resumed.

python benchmarks/speed/bench_shards.py --rows 10000000 --kills 20

A tiny random model stands in for a real one. The output of the run that was killed must have the bytes of one that was
not, with each row once. Every life is a forked process of its own, ended with its children by SIGKILL.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from product_relevance.sharding import plan
from product_relevance.utils.files import sha256_of
from product_relevance.utils.options import Parser

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample" / "train_QC.txt"
FIELDS = ("id", "task", "language", "origin_query", "category_path")
POLL = 0.1  # seconds


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard_rows", type=int, default=20_000, help="rows per shard")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--keep", help="name under benchmarks/results/ to keep the figures by")
    return parser


def write_records(path: Path, rows: int) -> None:
    """Write distinct pairs, made of the sample's by a number at the query's end, in batches of constant memory."""
    base = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    types = [("id", pa.int64()), *((name, pa.string()) for name in FIELDS[1:])]
    with pq.ParquetWriter(path, pa.schema(types)) as writer:
        for start in range(0, rows, 50_000):
            numbers = range(start, min(rows, start + 50_000))
            picked = [base[n * 7919 % len(base)] for n in numbers]
            columns = {name: [row[name] for row in picked] for name in FIELDS}
            queries = [f"{row['origin_query']} {n}" for row, n in zip(picked, numbers, strict=True)]
            columns |= {"id": list(numbers), "origin_query": queries}
            writer.write_table(pa.table(columns, schema=writer.schema))


def start(main, arguments: list[str], log: Path) -> int:
    """Run a command in a process group of its own, its output in a file; return the process id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    os.setsid()
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        main(arguments)
    except SystemExit as error:
        print(error.code, flush=True)
        os._exit(1 if error.code else 0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


class Usage:
    """What processes used, with their children: CPU seconds of all, and the most memory that one of them held."""

    def __init__(self):
        self.seconds, self.peak = {}, 0

    def look(self, pid: int) -> bool:
        """Read what a process and its children have used so far; return whether it still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [top := psutil.Process(pid), *top.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times, created = process.cpu_times(), process.create_time()
                    self.seconds[process.pid, created] = times.user + times.system
                    self.peak = max(self.peak, process.memory_info().rss)
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def figures(self) -> dict[str, float]:
        """Return CPU seconds, and MiB of the largest process."""
        return {"cpu_seconds": round(sum(self.seconds.values()), 1), "peak_mib": round(self.peak / 2**20, 1)}


def finish(pid: int, log: Path, usage: Usage | None = None) -> Usage:
    """Wait for a process that must end well; return what it used, added to what others did."""
    usage = usage or Usage()
    while usage.look(pid):
        time.sleep(POLL)
    if status := os.waitpid(pid, 0)[1]:
        sys.exit(f"a process ended with status {status}:\n{log.read_text(errors='replace')[-2000:]}")
    return usage


def save_base(arguments: list[str]) -> None:
    """Save a random base with the tokenizer of embedded:e5-small, whose cost a row is a real one."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from product_relevance.models.modeling import load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer("embedded:e5-small")
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=130,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    XLMRobertaModel(config).save_pretrained(arguments[0])
    tokenizer.save_pretrained(arguments[0])


def make_run(folder: Path) -> Path:
    """Train the tiny model, one layer of 32 units and one fold, on a few rows of the sample."""
    sys.path.insert(0, str(ROOT))
    import train_relevance

    log, records = folder / "train.log", folder / "train_QC.txt"
    lines = SAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    records.write_text("".join(lines[:120]), encoding="utf-8")
    finish(start(save_base, [str(folder / "base")], log), log)
    flags = "--task QC --use_cpu true --max_steps 2 --adapter none --num_folds 2 --fold 0 --max_length 24"
    flags += " --save_strategy no --eval_strategy no --load_best_model_at_end false --language_fix none"
    names = ["--model_name_or_path", str(folder / "base"), "--train_file", str(records)]
    arguments = [*flags.split(), *names, "--output_dir", str(folder / "run")]
    finish(start(train_relevance.main, arguments, log), log)
    return folder / "run"


def command(run: Path, source: Path, output: Path, args) -> list[str]:
    """Return the command line that is run, killed, and run again."""
    number = -(-pq.read_metadata(source).num_rows // args.shard_rows)
    words = ["predict", run, source, "--shards", number, "--workers", args.workers, "--output", output]
    return [str(word) for word in [*words, "--device", "cpu", "--dtype", "float32"]]


def uninterrupted(main, arguments: list[str], log: Path, rows: int) -> dict[str, float]:
    """Run to the end in one life."""
    started = time.perf_counter()
    used = finish(start(main, arguments, log), log).figures()
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": round(seconds, 1), "rows_per_second": round(rows / seconds), **used}


def killed(main, arguments: list[str], log: Path, output: Path, args, seconds: float) -> dict[str, float]:
    """Run with SIGKILL at random moments over the whole run, the cutting and the loading too, then to the end."""
    rng = random.Random(args.seed)
    number = int(arguments[arguments.index("--shards") + 1])
    moments = sorted(rng.randrange(number - 1) for _ in range(args.kills))
    usage, started = Usage(), time.perf_counter()
    for wanted in moments:
        pid = start(main, arguments, log)
        while usage.look(pid) and whole(output) < wanted:
            time.sleep(POLL)
        end = time.perf_counter() + rng.uniform(0, 1.5 * seconds / number)
        while usage.look(pid) and time.perf_counter() < end:
            time.sleep(POLL)
        os.killpg(pid, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            sys.exit(f"a process ended before it was killed:\n{log.read_text(errors='replace')[-2000:]}")
        print(f"killed after {whole(output)} of {number} shards", flush=True)
    used = finish(start(main, arguments, log), log, usage).figures()
    return {"kills": len(moments), "seconds": round(time.perf_counter() - started, 1), **used}


def whole(output: Path) -> int:
    """Count the shards that have a manifest."""
    return len(list((output / "output").glob("[0-9]*.json")))


def compare(one: Path, other: Path, rows: int) -> dict[str, int]:
    """Check that two outputs have the same bytes and each row once, in order; stop with what differs."""
    files = [{p.relative_to(f): sha256_of(p) for p in sorted((f / "output").iterdir())} for f in (one, other)]
    if files[0] != files[1]:
        sys.exit(
            f"outputs differ in {[str(n) for n in files[0] | files[1] if files[0].get(n) != files[1].get(n)][:5]}"
        )
    number = len(plan.read_plan(other)["shards"])
    for i, (first, end) in enumerate(pairwise(plan.shard_bounds(rows, number))):
        ids = pq.read_table(plan.output_path(other, i), columns=["id"])["id"].to_pylist()
        if ids != list(range(first, end)):
            sys.exit(f"shard {i}: found other ids than {first} to {end - 1}, each once")
    return {"files_alike": len(files[0]), "rows_once": rows}


def main() -> None:
    """Run both ways and at a tenth of the size, and print the figures, at last as one line of JSON."""
    args = make_parser().parse_args()
    if args.rows < 10 * args.shard_rows or args.kills < 0:
        sys.exit(f"found --rows {args.rows}, expected 10 times --shard_rows {args.shard_rows} at least")
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # Imported before the forks, so that a life costs no import; none of these starts a thread.
    import product_relevance.ensemble  # noqa: F401
    from product_relevance.cli.main import main as relevance
    from product_relevance.sharding import executor  # noqa: F401

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, log, results = make_run(folder), folder / "predict.log", {}
        for kind, rows in (("tenth", args.rows // 10), ("whole", args.rows)):
            write_records(folder / f"{kind}.parquet", rows)
            arguments = command(run, folder / f"{kind}.parquet", folder / kind, args)
            results[kind] = uninterrupted(relevance, arguments, log, rows)
            print(kind, results[kind], flush=True)
        arguments = command(run, folder / "whole.parquet", folder / "killed", args)
        seconds = results["whole"]["seconds"]
        results["killed"] = killed(relevance, arguments, log, folder / "killed", args, seconds)
        results["killed"] |= compare(folder / "whole", folder / "killed", args.rows)
    print("killed", results["killed"])
    figures = {"benchmark": "scale_out", "shard_rows": args.shard_rows, "workers": args.workers, **results}
    if args.keep:
        from measurement import keep

        keep(args.keep, figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
