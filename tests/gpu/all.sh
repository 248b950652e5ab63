#!/bin/bash
# The whole check of a GPU within LIMIT seconds: tests, a whole command, timings, then trainings with what is left.
#
#     bash tests/gpu/all.sh [SECTION ...]
#
# Sections, in order: arithmetic; parity, recorded, repeat, evaluation, short, command, others (side by side); ceilings,
# updates, seeds, profile, settings, compiled (alone, the last two on CUDA); mnist, cifar. Each has a time of its own and stops no other; each
# ends with a line PASS, FAIL or SKIP. The exit code is 1 if one failed.
#
# It needs no nox, no pip, no network and no .git: a python3 with torch, pytest and the project's dependencies, that is
# also torch-fidelity, msgspec, platformdirs and click, which a machine for torch alone may lack; filelock, scipy and pandas
# are there with others. It uses neither pytest-xdist nor pytest-benchmark nor hypothesis.
#
# Set by the environment:
#     LIMIT            seconds for all; 430
#     DEVICE           cuda, or cpu: everything in small, one after another, to see that it works
#     PYTHON           python3
#     OUT              folder of logs, speed tables and profiles; default: a fresh one
#     OUT_DIR          folder of the trained runs, as NAME.tar.aa and on (`cat NAME.tar.* | tar x`); default: OUT
#     ALIBENCH_DATA    folder of data; mnist wants raw/MNIST in it; default: a fresh one, and no mnist
#     CIFAR10_FOLDER   CIFAR-10 as a folder of images, for cifar; /tmp/cifar10-jpeg
set -u
cd "$(dirname "$0")/../.." || exit 2
export DEVICE=${DEVICE:-cuda} PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-430} OUT=${OUT:-$(mktemp -d)} CIFAR10_FOLDER=${CIFAR10_FOLDER:-/tmp/cifar10-jpeg}
OUT_DIR=${OUT_DIR:-$OUT}
mkdir -p "$OUT" "$OUT_DIR" || exit 2
for room in models evaluation results benchmarks; do  # a copy may have lost the links
    [ -e alibench/$room ] || ln -sfn "../$room" "alibench/$room"
done
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ASKED=" $* " FAILED=0
declare -A PROCESS STARTED

left() { echo $((LIMIT - SECONDS)); }
asked() { [ "$ASKED" = "  " ] || [[ $ASKED == *" $1 "* ]]; }

# begin NAME SECONDS COMMAND...: start a section beside others, if it is asked for and there is time
begin() {
    local name=$1 most=$2; shift 2
    asked "$name" || return 0
    [ "$(left)" -lt "$most" ] && most=$(left)
    if [ "$most" -lt 5 ]; then echo "FAIL  $name: no time was left"; FAILED=1; return 0; fi
    timeout -k 10 "$most" "$@" > "$OUT/$name.log" 2>&1 &
    PROCESS[$name]=$! STARTED[$name]=$SECONDS
    [ "$DEVICE" = cpu ] && finish "$name"
    return 0
}

# finish NAME...: wait for sections, say how each ended, and of one that failed, which tests
finish() {
    local name code
    for name in "$@"; do
        [ -n "${PROCESS[$name]:-}" ] || continue
        wait "${PROCESS[$name]}"; code=$?
        unset "PROCESS[$name]"
        local took="$((SECONDS - STARTED[$name])) s"
        if [ $code = 0 ]; then
            echo "PASS  $name, $took: $(tail -n 1 "$OUT/$name.log" | cut -c1-200)"
        else
            [ $code = 124 ] && took="$took, its time was over"
            echo "FAIL  $name, $took, exit code $code: $(tail -n 1 "$OUT/$name.log" | cut -c1-200)"
            grep -E '^(FAILED|ERROR|E  )' "$OUT/$name.log" | cut -c1-240 | head -n 30
            FAILED=1
        fi
    done
}

alone() { begin "$@"; finish "$1"; }

TESTS=("$PYTHON" -m pytest -q -ra -c pyproject.toml -o addopts= -p no:cacheprovider) # addopts ask for plugins
CORRECT=("${TESTS[@]}" -m "gpu and not speed and not slow")
OTHERS=$(grep -rl "mark.gpu" tests/models tests/evaluation tests/results tests/benchmarks --include="test_*.py")
if [ "$DEVICE" != cpu ] && ! "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "There is no CUDA device here, so all tests are skipped; DEVICE=cpu runs them in small."
    exec "${TESTS[@]}" -m "gpu and not speed" tests/gpu $OTHERS
fi
WORK=$(mktemp -d)
trap 'kill "${PROCESS[@]}" 2> /dev/null; rm -rf "$WORK"' EXIT
export ALIBENCH_DATA=${ALIBENCH_DATA:-$WORK/data}

# ---- correctness: side by side, nothing is timed
BESIDE=(parity recorded repeat evaluation short command others extractor)
OMP_NUM_THREADS=$(($(nproc) / ${#BESIDE[@]}))
[ "$OMP_NUM_THREADS" -gt 0 ] && [ "$DEVICE" != cpu ] || OMP_NUM_THREADS=1
export OMP_NUM_THREADS
alone arithmetic 60 "${CORRECT[@]}" tests/gpu/test_arithmetic.py
begin parity 150 "${CORRECT[@]}" tests/gpu/test_parity.py
begin recorded 150 "${CORRECT[@]}" tests/gpu/test_recorded.py
begin repeat 90 "${CORRECT[@]}" tests/gpu/test_repeat.py
begin evaluation 120 "${CORRECT[@]}" tests/gpu/test_evaluation.py
begin short 90 "${CORRECT[@]}" tests/gpu/test_short_run.py
begin command 150 "${CORRECT[@]}" tests/gpu/test_command.py
begin others 120 "${CORRECT[@]}" $OTHERS
if [ -d "$CIFAR10_FOLDER" ] && asked cifar && [ "$DEVICE" != cpu ]; then
    ASKED="$ASKED extractor " begin extractor 150 "$PYTHON" -m alibench fit-extractor "folder:$CIFAR10_FOLDER"
fi
finish "${BESIDE[@]}"
[ "$DEVICE" = cpu ] || unset OMP_NUM_THREADS

# ---- speed: nothing beside it
timed() { # NAME SECONDS EXPRESSION: the speed cases whose names match
    alone "$1" "$2" "${TESTS[@]}" -m speed tests/speed/test_gpu_speed.py -k "$3" --speed-out "$OUT/speed/$1"
}
timed ceilings 40 "ceilings or copy"
timed updates 90 "test_update"
timed seeds 40 "seeds"
timed profile 30 "profile"
if [ "$DEVICE" != cpu ]; then
    timed settings 40 "settings or batches"
    alone compiled 90 "${TESTS[@]}" -m "(gpu and slow) or speed" tests/gpu tests/speed/test_gpu_speed.py -k "compiled and tf32" \
        --speed-out "$OUT/speed/compiled"
fi

# ---- real trainings with what is left, as many updates as the measured pace allows
pace() { "$PYTHON" -m tests.speed.pace "$@" 2> "$OUT/pace.log" || echo 5; } # NETWORKS MODEL SEEDS: ms an update
steps() { "$PYTHON" -c "import sys; s, ms = map(float, sys.argv[1:]); print(max(20, int(1000 * s / ms)))" "$1" "$2"; }
training() { # NAME SECONDS ARGUMENTS...: a run, which comes home in parts that can be sent, with the first seed's weights
    local name=$1 most=$2; shift 2
    alone "$name" "$most" "$PYTHON" -m alibench run "$@" --device "$DEVICE" "${FAST[@]}" --out "$WORK/$name"
    [ ! -d "$WORK/$name" ] || tar -C "$WORK" --exclude='*-seed[1-9]/model.safetensors' -cf - "$name" | split -b 15m - "$OUT_DIR/$name.tar."
}
FAST=() # as both are by default on a GPU of today, and as the pace is measured
[ "$DEVICE" = cpu ] || FAST=(--set precision=tf32 --set execution=graphs)

# BiGAN's row of its table on MNIST: updates for a third of what two evaluations leave
if ! asked mnist; then :
elif [ ! -d "$ALIBENCH_DATA/raw/MNIST" ]; then echo "SKIP  mnist: there is no $ALIBENCH_DATA/raw/MNIST"
else
    seeds=3 count=20 more=(--set recipe.statistics=2 --set 'metrics=["health"]')
    if [ "$DEVICE" != cpu ]; then
        count=$(steps $((($(left) - 110) / 3)) "$(pace MNIST bigan $seeds)")
        more=(--set 'metrics=["reconstruction", "neighbours", "health"]')
    fi
    echo "      mnist: $count updates of $seeds stacked seeds"
    training mnist $(($(left) * 2 / 3)) mnist_bigan --models bigan --seeds $seeds --set steps="$count" "${more[@]}"
fi

# ALI at the paper's networks on CIFAR-10: what is left but 75 s of evaluation
if ! asked cifar; then :
elif [ "$DEVICE" = cpu ]; then echo "SKIP  cifar: its evaluation alone takes minutes on a CPU"
elif [ ! -d "$CIFAR10_FOLDER" ]; then echo "SKIP  cifar: there is no $CIFAR10_FOLDER"
else
    count=$(steps $(($(left) - 75)) "$(pace CIFAR-10 ali 1)")
    echo "      cifar: $count updates"
    training cifar "$LIMIT" cifar10 --data "folder:$CIFAR10_FOLDER" --models ali --seeds 1 --set steps="$count" \
        --set evaluation.extractor=classifier --set 'metrics=["reconstruction", "fidelity", "health"]'
fi
echo "      $SECONDS s; logs in $OUT"
exit $FAILED
