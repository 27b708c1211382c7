#!/usr/bin/env bash
# Distributed training with Slurm, run from a BasicSR checkout, whose basicsr/train.py it starts:
#   GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 bash PATH/OF/THIS/slurm_train.sh PARTITION JOB_NAME options/sparnet.yml [arguments]
# GPUS is the number of processes. GRES is asked for on each machine (default gpu:GPUS_PER_NODE); GRES= trains on CPUs.
set -euo pipefail
partition=${1:?partition}
job=${2:?job name}
options=${3:?option file}
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
gres=${GRES-gpu:$per_node}
PYTHONPATH="$(pwd):${PYTHONPATH:-}" exec srun -p "$partition" --job-name="$job" ${gres:+--gres="$gres"} \
  --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  python -u basicsr/train.py -opt "$options" --launcher slurm "$@"
