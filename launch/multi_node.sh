#!/usr/bin/env bash
# Train on several nodes without a scheduler: run the same line on every node, within ten minutes of one another.
#   launch/multi_node.sh FIRST_NODE NODES [PROCESSES_PER_NODE]
# FIRST_NODE is the name or address of any one of them that the others can reach. One node: localhost 1.
# The repository, with data/ and .work/, has to be on a file system that all nodes see; afterwards, on one of them:
#   uv run dvc commit --force train && uv run dvc repro
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
    echo "usage: $0 FIRST_NODE NODES [PROCESSES_PER_NODE]" >&2
    exit 2
fi

exec uv run torchrun \
    --nnodes="$2" \
    --nproc-per-node="${3:-gpu}" \
    --rdzv-id=wavemix \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$1:${PORT:-29500}" \
    -m stages.train
