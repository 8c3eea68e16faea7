#!/usr/bin/env bash
# A Slurm cluster of one node for trying things out: this machine, with two slots.
#
#     apt-get install slurm-wlm munge
#     tools/slurm_node.sh start DIR      writes configuration, keys and logs below DIR
#     export SLURM_CONF=DIR/slurm.conf
#     sbatch --wrap hostname
#     tools/slurm_node.sh stop DIR       ends its jobs and daemons
#
# Run it as root or as another user; the daemons run as that user. Environment: SLOTS (2), SLURMCTLD_PORT (16817),
# SLURMD_PORT (16818).
set -euo pipefail

usage="usage: $0 start|stop DIR"
action=${1:?$usage}
dir=$(mkdir -p "${2:?$usage}" && cd "$2" && pwd)
export PATH="$PATH:/usr/sbin:/sbin"

# End a daemon and wait until it has ended; after 10 s kill it.
end() {
    local pid
    [ -f "$dir/$1.pid" ] || return 0
    pid=$(cat "$dir/$1.pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$dir/$1.pid"
}

stop() {
    export SLURM_CONF="$dir/slurm.conf"
    if [ -f "$dir/slurmctld.pid" ]; then
        scancel --user "$(id -u)" 2>/dev/null || true
        for _ in $(seq 60); do # a job has KillWait seconds to end
            squeue --noheader 2>/dev/null | grep -q . || break
            sleep 0.5
        done
    fi
    # MUNGE last: without it a job's own process cannot say that it has ended, and tries again for minutes
    end slurmd
    end slurmctld
    end munged
}

start() {
    for program in slurmctld slurmd munged; do
        if ! command -v "$program" >/dev/null; then
            echo "expected Slurm and MUNGE; found no $program. Type: apt-get install slurm-wlm munge" >&2
            exit 1
        fi
    done
    local host memory
    host=$(hostname -s)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    mkdir -p "$dir/state" "$dir/spool" "$dir/munge"
    chmod 0700 "$dir/munge"
    [ -f "$dir/munge/key" ] || dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 status=none
    chmod 0400 "$dir/munge/key"
    cat >"$dir/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
SlurmctldPort=${SLURMCTLD_PORT:-16817}
SlurmdPort=${SLURMD_PORT:-16818}
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
# as many CPUs as asked for, whatever the machine has
SlurmdParameters=config_overrides
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=${SLOTS:-2} RealMemory=$memory State=UNKNOWN
PartitionName=trial Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
    export SLURM_CONF="$dir/slurm.conf"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    for _ in $(seq 60); do
        if sinfo --noheader --states=idle,mixed,allocated --format=%n 2>/dev/null | grep -q .; then
            echo "Slurm runs with ${SLOTS:-2} slots on $host. Type: export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "expected an idle node after 30 s; found: $(sinfo 2>&1). See the logs in $dir" >&2
    stop
    exit 1
}

case "$action" in
start) start ;;
stop) stop ;;
*) echo "$usage" >&2 && exit 2 ;;
esac
