#!/usr/bin/env bash
# All figures of one GPU in one command, under 9 minutes on an H200: benchmarks/speed/gpu_suite.sh
# Needs only torch, transformers, peft, accelerate, numpy, pandas, pyarrow and this repository; no network.
# SHAPE=tiny DEVICE=cpu tries it out on a CPU. OUT is where the JSON goes, PYTHON what runs it; PATIENCE multiplies the
# time limits of the stages, on a slower device.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
SHAPE=${SHAPE:-gemma-3-12b} DEVICE=${DEVICE:-cuda} OUT=${OUT:-benchmarks/results} PYTHON=${PYTHON:-python3}
export PYTHONPATH=".:benchmarks/speed${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# one GPU, bfloat16 unless a stage says otherwise, and float32 that is float32
GPUS=${CUDA_VISIBLE_DEVICES:-0}
export CUDA_VISIBLE_DEVICES=${GPUS%%,*} RELEVANCE_DTYPE=bfloat16 TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=0 NVIDIA_TF32_OVERRIDE=0
WORK=$(mktemp -d) && trap 'rm -rf "$WORK"' EXIT
mkdir -p "$OUT" && : >"$OUT/gpu-suite.log" || exit 1

PAIRS=2000 TARGETS=1000 STEPS=16 WAYS="first_team trainer ours ours_large"
if [ "$SHAPE" = tiny ]; then PAIRS=64 TARGETS=16 STEPS=1 WAYS="first_team ours"; fi

# stage NAME SECONDS ARGUMENTS...: run a program; the last line of its output is the stage's JSON, all of it goes to the log
stage() {
    local name=$1 limit=$2 started=$SECONDS code
    shift 2
    echo "== $name" | tee -a "$OUT/gpu-suite.log"
    timeout -k 5 $((limit * ${PATIENCE:-1})) "$PYTHON" "$@" >"$WORK/out" 2>>"$OUT/gpu-suite.log"
    code=$?
    tee -a "$OUT/gpu-suite.log" <"$WORK/out"
    [ $code -eq 0 ] && tail -n 1 "$WORK/out" >"$WORK/$name.json"
    echo "$name $code $((SECONDS - started))" >>"$WORK/stages"
}

stage peak 60 -c "
import json, sys, measurement
types = ('float32', 'bfloat16') if sys.argv[1] == 'cpu' else ('bfloat16', 'float16', 'float32')
print(json.dumps({'tflops': {t: round(measurement.matmul_peak(sys.argv[1], t) / 1e12, 3) for t in types}}))" "$DEVICE"
stage predict 100 benchmarks/speed/bench_predict.py --shape "$SHAPE" --device "$DEVICE" --pairs $PAIRS --repeats 1 \
    --sides ours first_team
stage rank 100 benchmarks/speed/bench_rank.py --shape "$SHAPE" --device "$DEVICE" --targets 1 8 $TARGETS --pairs $TARGETS \
    --repeats 1
stage train 150 benchmarks/speed/bench_train.py --shape "$SHAPE" --device "$DEVICE" --steps $STEPS --ways $WAYS
# bfloat16 is held to its bound in `rank` too; here to the same, and float32 to 1e-3
stage exact_bfloat16 50 benchmarks/speed/bench_rank.py --shape "$SHAPE" --device "$DEVICE" --dtype bfloat16 --targets 8 \
    --pairs 64 --repeats 1
stage exact_float32 70 benchmarks/speed/bench_rank.py --shape "$SHAPE" --device "$DEVICE" --dtype float32 --targets 8 \
    --pairs 64 --repeats 1

"$PYTHON" - "$WORK" "$OUT" "$SHAPE" "$DEVICE" <<'PYTHON'
import json
import sys
from pathlib import Path

import measurement

work, out, shape, device = sys.argv[1:]
figures = {}
print(f"\n{'stage':<16}{'state':<12}{'seconds':>8}")
for line in (Path(work) / "stages").read_text().splitlines():
    name, code, seconds = line.split()
    state = {"0": "done", "124": "timed out", "137": "timed out"}.get(code, f"failed {code}")
    figures[name] = {"state": state, "seconds": int(seconds)}
    if code == "0":
        try:
            figures[name] |= json.loads((Path(work) / f"{name}.json").read_text())
        except ValueError:
            figures[name]["state"] = "no JSON"
    print(f"{name:<16}{figures[name]['state']:<12}{seconds:>8}")
path = measurement.keep(f"gpu-suite-{shape}-{device}", figures, out)
print(f"\nkept in {path}, what was printed in {out}/gpu-suite.log")
print(json.dumps({name: found["state"] for name, found in figures.items()}))
sys.exit(any(found["state"] != "done" for found in figures.values()))
PYTHON
