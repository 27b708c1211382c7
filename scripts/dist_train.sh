#!/usr/bin/env bash
# Distributed training on one machine, run from a BasicSR checkout, whose basicsr/train.py it starts:
#   bash PATH/OF/THIS/dist_train.sh 4 options/sparnet.yml [further arguments of basicsr/train.py]
# Without GPUs the processes share the CPU (gloo). Outside a checkout: torchrun ... -m facesr_plugin.train
# RESTARTS=3 starts a run up to three times again when a process dies; add --auto_resume, so that it goes on.
set -euo pipefail
processes=${1:?number of processes}
options=${2:?option file}
shift 2
PYTHONPATH="$(pwd):${PYTHONPATH:-}" exec torchrun --nnodes=1 --nproc_per_node="$processes" \
  --rdzv-backend=c10d --rdzv-endpoint=localhost:0 --max-restarts="${RESTARTS:-0}" \
  basicsr/train.py -opt "$options" --launcher pytorch "$@"
