# shellcheck shell=bash disable=SC2034
# What the scripts beside this one share; they source it. Nothing here knows a machine: what is special about one stands
# in `site.sh` in the folder from which a job is submitted. `ainerd-hpc submit` writes it from the site file; by hand,
# write one with any of these, or none:
#
#   AINERD_COMMAND=(ainerd-hpc)             # the program
#   AINERD_LAUNCHER=(srun --ntasks=1)       # what starts it on the node
#   AINERD_MODULES=(python/3.11)            # loaded first
#   AINERD_ACTIVATE=~/venv/bin/activate     # sourced then
#   AINERD_VARIABLES=(NAME=value)           # exported then
#   AINERD_SCRATCH=/local/scratch           # fast disk of the node
#   AINERD_INTERFACE=hsn0                   # network between the ranks of a training
#   AINERD_RESTARTS=10                      # how often a job may go on when its time was up

AINERD_COMMAND=(ainerd-hpc)
AINERD_LAUNCHER=()
AINERD_MODULES=()
AINERD_ACTIVATE=''
AINERD_VARIABLES=()
AINERD_SCRATCH=''
AINERD_INTERFACE=''
AINERD_RESTARTS=10

job=''
child=''
time_is_up=''
is_told_to_end=''
trap 'time_is_up=yes; end_child' USR1 # from SLURM, some time before the walltime
trap 'is_told_to_end=yes; end_child' TERM # the job is cancelled, or has to make room

# Ask the program to end in order: what it has published stays, the same command goes on from there.
end_child() {
    if [ -n "$child" ]; then
        was_signalled=yes
        kill -TERM "$child" 2>/dev/null
    fi
}

# prepare: modules, environment and temporary files, as site.sh says.
prepare() {
    if [ -f site.sh ]; then
        # shellcheck source=/dev/null
        source ./site.sh
    fi
    if [ ${#AINERD_MODULES[@]} -gt 0 ]; then
        command -v module >/dev/null || source /etc/profile
        module load "${AINERD_MODULES[@]}" || exit 1
    fi
    if [ -n "$AINERD_ACTIVATE" ]; then
        # shellcheck source=/dev/null
        source "$AINERD_ACTIVATE" || exit 1
    fi
    if [ -n "$AINERD_SCRATCH" ]; then
        mkdir -p "$AINERD_SCRATCH" || exit 1
        export TMPDIR=$AINERD_SCRATCH
    fi
    if [ -n "$AINERD_INTERFACE" ]; then
        export GLOO_SOCKET_IFNAME=$AINERD_INTERFACE NCCL_SOCKET_IFNAME=$AINERD_INTERFACE
    fi
    export PYTHONUNBUFFERED=1 "${AINERD_VARIABLES[@]}"
}

# attend COMMAND...: run it, hand signals on to it, and leave its exit status in `status`.
attend() {
    echo "ainerd-hpc job $job: $(date '+%F %T') on $(hostname): $*"
    "$@" &
    child=$!
    was_signalled=yes
    while [ -n "$was_signalled" ]; do # a signal ends `wait`, not the program
        was_signalled=''
        wait "$child"
        status=$?
    done
    child=''
}

# insist COMMAND...: again after a while where it fails: a batch system that does not answer now may do so soon.
insist() {
    local pause
    for pause in 10 60; do
        "$@" && return
        sleep "$pause"
    done
    "$@"
}

# conclude COMMAND...: end the job; where its time was up, or its program was killed, COMMAND lets it go on.
conclude() {
    local why=''
    if [ "$status" = 3 ]; then
        status=0 # some scans are set aside: the line goes on with the others
    elif [ "$status" = 137 ] && [ -z "$is_told_to_end" ]; then
        sleep 2 # who ends a whole job kills this script next
        why='the program was killed (out of memory?)'
    elif [ -n "$time_is_up" ] && [ "$status" != 0 ]; then
        why='time is up'
    fi
    if [ -n "$why" ]; then
        if [ "${restarted:-0}" -ge "$AINERD_RESTARTS" ]; then
            echo "ainerd-hpc: $why, after $AINERD_RESTARTS restarts; \`ainerd-hpc submit\` goes on where it stopped"
        elif insist "$@"; then
            echo "ainerd-hpc: $why; goes on in another job"
        else
            echo "ainerd-hpc: $why, and it cannot be submitted again; \`ainerd-hpc submit\` goes on where it stopped"
        fi
    fi
    echo "ainerd-hpc job $job: exit $status, $(date '+%F %T')"
    exit "$status"
}
