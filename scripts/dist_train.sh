#!/usr/bin/env bash
# Distributed training on one machine, run from a BasicSR checkout:
#   bash dist_train.sh 4 options/sparnet.yml [further arguments of basicsr/train.py]
# Without GPUs the processes share the CPU (gloo). Outside a checkout: torchrun ... -m facesr_plugin.train
set -euo pipefail
processes=${1:?number of processes}
options=${2:?option file}
shift 2
PYTHONPATH="$(pwd):${PYTHONPATH:-}" exec torchrun --nproc_per_node="$processes" \
  basicsr/train.py -opt "$options" --launcher pytorch "$@"
