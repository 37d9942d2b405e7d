# shellcheck shell=bash
# Sourced by every script beside it: where the code is, what the site asks for, how a job goes on or ends.
set -euo pipefail

say() { echo "${SLURM_JOB_NAME}: $*" >&2; }
refuse() { say "$*"; exit 2; }

cd "${ALEXNET_HOME:-$SLURM_SUBMIT_DIR}" || refuse "ALEXNET_HOME names a folder that this node does not see"

# --- what the site asks for: slurm/site.env, under what the job was submitted with
site=${ALEXNET_SITE:-slurm/site.env}
if [ -f "$site" ]; then
  # shellcheck disable=SC2016
  wrong=$(bash -euc '. "$1"' bash "$site" 2>&1) || refuse "$wrong: lines are NAME=value, or NAME=\"several words\""
  submitted=$(export -p)
  set -a
  # shellcheck source=/dev/null
  . "$site"
  set +a
  eval "$submitted"
elif [ -n "${ALEXNET_SITE:-}" ]; then
  refuse "$ALEXNET_SITE, which ALEXNET_SITE names, is not there: see slurm/site.env.example"
fi
if [ -n "${MODULES:-}" ]; then
  type module >/dev/null 2>&1 || refuse "MODULES is set in $site, and this node has no command \`module\`: leave it out, or see how jobs get it here"
  set +u  # which site's modules may not stand
  # shellcheck disable=SC2086
  module load $MODULES || refuse "\`module load $MODULES\` failed: correct MODULES in $site"
  set -u
fi
if [ -n "${NETWORK_INTERFACE:-}" ]; then
  export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE
fi

# --- where `alexnet` is: in an environment of this checkout, or in an image
step_options=(--export=ALL --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}")
inside=()
export ALEXNET_IMAGE=${CONTAINER_IMAGE:-}
if [ -z "${CONTAINER_IMAGE:-}" ]; then
  environment=${PYTHON_ENV:-.venv}
  [[ $environment = /* ]] || environment=$PWD/$environment
  [ -x "$environment/bin/alexnet" ] || refuse "$environment has no alexnet: run \`make setup\`, or name PYTHON_ENV or CONTAINER_IMAGE in $site"
  export PATH=$environment/bin:$PATH
else
  mounts=$PWD:$PWD${CONTAINER_MOUNTS:+,$CONTAINER_MOUNTS}
  unset PYTHONPATH
  export PYTHONSAFEPATH=1  # the code of the image, whose commit is known, rather than that of the folder
  case ${CONTAINER_RUNTIME:-pyxis} in
    pyxis) step_options+=(--container-image="$CONTAINER_IMAGE" --container-mounts="$mounts" --container-workdir="$PWD") ;;
    apptainer) inside=(apptainer exec --nv --bind "$mounts" --pwd "$PWD" "$CONTAINER_IMAGE") ;;
    *) refuse "CONTAINER_RUNTIME is $CONTAINER_RUNTIME in $site: choose pyxis or apptainer" ;;
  esac
fi

# --- signals: USR1 comes to this script before the time limit; TERM with a cancellation, a pre-emption or a requeue
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}  # the number alone would mean all tasks of an array to one of them
announced='' interrupted='' step='' teller=''
interrupt() {
  interrupted=yes
  [ -n "$step" ] && [ -z "$teller" ] || return 0
  tell_ranks "$step" &
  teller=$!
}
trap 'announced=yes; interrupt' USR1
trap interrupt TERM

# tell_ranks STEP: SIGTERM for them, until they have ended: those that were only starting have not heard the first.
# In the background, for while Slurm ends a job, scancel waits for it.
tell_ranks() {
  while kill -0 "$1" 2>/dev/null; do
    timeout 10 scancel --quiet --signal=TERM "$job" || true
    sleep 5
  done
}

# run_step WORDS...: `alexnet WORDS` as a step on all nodes of the job; its exit code, however many signals come.
run_step() {
  local code=0
  srun "${step_options[@]}" "${inside[@]}" alexnet "$@" &
  step=$!
  [ -z "$interrupted" ] || interrupt
  wait "$step" || code=$?
  while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$?
  done
  [ -z "$teller" ] || { pkill -P "$teller" || true; wait "$teller" || true; }  # it sleeps, or waits for scancel
  step='' teller=''
  return "$code"
}

# requeue: this job once more, with the same words; unless Slurm is ending it, to cancel it or to requeue it itself.
requeue() {
  local times=${SLURM_RESTART_COUNT:-0}
  case ${announced:-$(scontrol --oneliner show job "$job")} in
    yes | *JobState=RUNNING* | '') ;;
    *) say "ended by Slurm, which may requeue it; submit it again to go on if it does not"; exit 75 ;;
  esac
  if [ "$times" -ge "${MAX_REQUEUES:=100}" ]; then
    say "interrupted after $MAX_REQUEUES requeues: submit it again to go on, or raise MAX_REQUEUES"
    exit 75
  fi
  trap '' USR1 TERM
  say "interrupted, requeued to go on (requeue $((times + 1)) of at most $MAX_REQUEUES)"
  scontrol requeue "$job" || say "Slurm does not requeue this job: submit it again to go on"
  exit 75
}

# run_resumable WORDS...: a step that goes on where it was left; requeued when it is interrupted.
run_resumable() {
  local code=0
  run_step "$@" || code=$?
  # 143: SIGTERM, which comes to the step alone where a pre-emption gives it time.
  if [ "$code" = 143 ] || { [ "$code" != 0 ] && [ -n "$interrupted" ]; }; then requeue; fi
  exit "$code"
}

# run_ranks RUN WORDS...: `alexnet WORDS` in a rank per GPU, as one world. Ranks leave the reason of their end in RUN:
# a mistake ends the chain, an interruption is requeued, a rank that died starts the group again, at most MAX_RESTARTS times.
run_ranks() {
  local run=$1 attempt code mistake reason ranks=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-}}
  shift
  export ALEXNET_ENDINGS MAX_RESTARTS=${MAX_RESTARTS:-3}
  if [ -n "$ranks" ]; then export ALEXNET_WORLD_SIZE=$((SLURM_JOB_NUM_NODES * ranks)); fi
  for ((attempt = 0; attempt <= MAX_RESTARTS; attempt++)); do
    [ -z "$interrupted" ] || requeue
    ALEXNET_ENDINGS=$run/slurm/endings/$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}-$attempt
    mkdir -p "$ALEXNET_ENDINGS"
    code=0
    run_step torchrun "$@" || code=$?
    [ "$code" != 0 ] || exit 0
    for mistake in 2 1; do
      if left "$mistake"; then
        reason=$(cat "$ALEXNET_ENDINGS"/rank-*."$mistake" | sed -n "1s/^$mistake //p")
        say "${reason:-a rank could not write why it ended with $mistake: is the disk full?}"
        exit "$mistake"
      fi
    done
    if [ -n "$interrupted" ] || left 75; then requeue; fi
    say "a rank was killed, hung, or lost its node (start $((attempt + 1)) of at most $((MAX_RESTARTS + 1)) in this job)"
  done
  say "ended $((MAX_RESTARTS + 1)) times: look at the log above, then submit it again to go on"
  exit 1
}

# left CODE: whether a rank has left that exit code.
left() { compgen -G "$ALEXNET_ENDINGS/rank-*.$1" >/dev/null; }

# find_flag FLAG WORDS...: the value of a flag among the words.
find_flag() {
  local flag=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      "$flag") echo "${2:-}"; return ;;
      "$flag="*) echo "${1#*=}"; return ;;
    esac
    shift
  done
}
