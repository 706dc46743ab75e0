#!/usr/bin/env bash
# Speed and correctness on one GPU in one command, at most 12 minutes on an H200: benchmarks/speed/gpu_suite.sh
# Needs only torch, transformers, peft, accelerate, numpy, pandas, pyarrow and this repository; no network.
# SHAPE=tiny DEVICE=cpu tries it out on a CPU. OUT is where the JSON goes, PYTHON what runs it; PATIENCE multiplies the
# time limits of the steps, on a slower device. STAGES names the stages to run, as "speed" or "correctness".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=".:benchmarks/speed${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# one GPU, bfloat16 unless a step says otherwise, and float32 that is float32; no GPU is touched before a step runs
GPUS=${CUDA_VISIBLE_DEVICES:-0}
export CUDA_VISIBLE_DEVICES=${GPUS%%,*} RELEVANCE_DTYPE=bfloat16 TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=0 NVIDIA_TF32_OVERRIDE=0
export PYTORCH_NVML_BASED_CUDA_CHECK=1
exec "${PYTHON:-python3}" benchmarks/speed/gpu_suite.py --shape "${SHAPE:-gemma-3-12b}" --device "${DEVICE:-cuda}" \
    --out "${OUT:-benchmarks/results}" --patience "${PATIENCE:-1}" --stages ${STAGES:-speed correctness}
