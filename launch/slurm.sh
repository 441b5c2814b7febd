#!/usr/bin/env bash
# Train on several nodes under Slurm: `sbatch --nodes=2 launch/slurm.sh`, from the repository's top folder.
# The folder, with data/, checkpoints/ and .work/, has to be on a file system that all nodes see.
# Preempted, it is put back into the queue; out of time, submit it again: it resumes its last state.
#SBATCH --job-name=wavemix
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1 # torchrun starts one process per GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120 # seconds before the end, for the state to be saved
#SBATCH --output=wavemix-%j.log
#SBATCH --open-mode=append
set -euo pipefail

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# One installation before all nodes start at once.
uv sync --quiet
# What must not run on every node: the data, which is skipped where it is prepared already.
uv run --no-sync dvc repro prepare

status=0
srun --kill-on-bad-exit=1 uv run --no-sync torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="${SLURM_GPUS_ON_NODE:-8}" \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first_node:${PORT:-29500}" \
    -m stages.train || status=$?
if [ "$status" -ne 0 ]; then
    echo "training ended with status $status: sbatch it again to resume its last state" >&2
    exit "$status"
fi
# DVC takes note of the checkpoint that lies there, then evaluates and reports on this node alone.
uv run --no-sync dvc commit --force train
uv run --no-sync dvc repro
