#!/usr/bin/env bash
# Two network namespaces of one machine as two hosts: fit and predict by torchrun over their link, against one host.
#
# Needs root (for the namespaces) and iproute2; without, it says so and ends with 0. From the root of the project, with
# rnn-lightning installed for the python that is found first:
#
#     sudo PATH="$PATH" bash tests/multinode/run.sh
set -euo pipefail
if [ "$(id -u)" != 0 ] || ! command -v ip > /dev/null; then
    echo "skipped: needs root and iproute2"
    exit 0
fi
folder=$(mktemp -d)
hosts=(rnnl-$$-a rnnl-$$-b)
clean() {
    for host in "${hosts[@]}"; do ip netns delete "$host" 2> /dev/null || true; done
    rm -rf "$folder"
}
trap clean EXIT

for host in "${hosts[@]}"; do
    ip netns add "$host"
    ip -n "$host" link set lo up
done
ip link add rnnl0 netns "${hosts[0]}" type veth peer name rnnl0 netns "${hosts[1]}"
ip -n "${hosts[0]}" address add 10.77.0.1/24 dev rnnl0
ip -n "${hosts[1]}" address add 10.77.0.2/24 dev rnnl0
for host in "${hosts[@]}"; do ip -n "$host" link set rnnl0 up; done

cd "$folder"
export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=rnnl0 TQDM_DISABLE=1
fit="fit --data.series.num_series=6 --data.series.num_steps=300 --data.num_batches_per_epoch=20 --trainer.max_epochs=2
    --trainer.log_every_n_steps=10 --trainer.enable_progress_bar=false --trainer.accelerator=cpu"
predict="predict --data.num_samples=50 --data.horizon=10 --trainer.enable_progress_bar=false --trainer.accelerator=cpu"

on_both() { # the same command on both hosts, as a user would type it
    for node in 1 0; do
        # The hosts share their name here: say which is at the address of the rendezvous.
        is_host=$([ "$node" = 0 ] && echo true || echo false)
        ip netns exec "${hosts[$node]}" timeout 120 python -m torch.distributed.run --nnodes=2 --nproc-per-node=1 \
            --rdzv-backend=c10d --rdzv-endpoint=10.77.0.1:29500 --rdzv-id=1 --rdzv-conf=is_host="$is_host" \
            --local-addr="10.77.0.$((node + 1))" \
            -m rnn_lightning "$@" --experiment=two --trainer.num_nodes=2 --trainer.devices=1 --trainer.strategy=ddp \
            > "host$node.log" 2>&1 &
        pids[node]=$!
    done
    wait "${pids[1]}" && wait "${pids[0]}" || { cat host0.log host1.log; exit 1; }
    grep -hE "distributed_backend|Starting with|^Checkpoint|^Forecast" host0.log
    test -z "$(grep -hE "^Checkpoint|^Forecast" host1.log)"
}

echo "+ one host"
unset GLOO_SOCKET_IFNAME
python -m rnn_lightning $fit --experiment=one --data.batch_size=32 2> one.log
python -m rnn_lightning $predict --experiment=one 2> one.log
export GLOO_SOCKET_IFNAME=rnnl0
echo "+ two hosts, 10.77.0.1 and 10.77.0.2"
on_both $fit --data.batch_size=16
on_both $predict
ls -A runs/two runs/two/predict_0
python - <<'PYTHON'
import polars as pl

def difference(file, columns):
    one, two = (pl.read_csv(f"runs/{name}/{file}") for name in ("one", "two"))
    assert one.columns == two.columns and one.height == two.height
    return one, two, max(float((one[name] - two[name]).abs().max()) for name in columns)

one, two, losses = difference("fit_0/metrics.csv", ["train_loss", "val_loss", "val_rollout_rmse"])
print(f"metrics: {one.height} rows, largest difference {losses:.1e}")
one, two, values = difference("predict_0/forecast.csv", ["y", "y-lo-80", "y-hi-80"])
assert one.select("unique_id", "ds").equals(two.select("unique_id", "ds"))
print(f"forecast: {one.height} rows in the same order, largest difference {values:.1e}")
assert losses < 1e-5 and values < 1e-4
PYTHON
echo "two hosts give the result of one"
