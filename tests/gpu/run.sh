#!/bin/bash
# run.sh BIN OUT [ROW...]: runs everything that needs a GPU, row by row, with the binaries in folder
# BIN or in pack.sh's BIN.tar.xz. Results go to OUT/rows.tsv (row, exit status, seconds, summary),
# OUT/log.txt and, of single rows, OUT/ROW.json. A row that rows.tsv already has as passed is not
# run again, so that an interrupted run goes on where it stopped; a row that did not run says
# "not measured".
# --list names the rows. KN_LIMIT is the seconds that one row may take (280), KN_ROW_BUDGET those
# that all rows may take together.
# Exit status: the number of rows that failed.
here=$(dirname "$(realpath "$0")")
if [ "${1:-}" = --list ]; then
    listing=1; bin=. out=$(mktemp -d); shift
else
    bin=$(realpath "$1"); out=$2; shift 2
fi
export KN_TEST_DATA=${KN_TEST_DATA:-$here/../data}
mkdir -p "$out"; rows=$out/rows.tsv; log=$out/log.txt; touch "$rows"

limit=${KN_LIMIT:-280}
scratch=${KN_SCRATCH:-/tmp/kn-gpu}; mkdir -p "$scratch"
if [ -f "$bin" ]; then
    if ! [ "$scratch/bin" -nt "$bin" ]; then
        rm -rf "$scratch/bin"; mkdir "$scratch/bin"
        tar -C "$scratch/bin" -xJf "$bin"
        touch "$scratch/bin"
    fi
    bin=$scratch/bin
fi
out=$(realpath "$out")
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$scratch/cache}

# Where the binaries find no CUDA libraries by themselves, those of a Python environment will do.
without_libraries() {
    { ldd "$bin/kn"; "$bin/kn" devices; } 2>&1 | grep -q 'not found\|not there'
}
if [ -z "${listing:-}" ] && without_libraries; then
    site=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
    for lib in "$site"/*/lib /usr/local/cuda/lib64; do LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$lib; done
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}
fi

# What every GPU of the fixture's kind has in common.
device_facts() { tr -d '{}\n' | tr , '\n' | grep -v 'pciDeviceId\|driverVer\|cudaDeviceId' | sort; }

core='GpuDevice.*:GpuMemory.*:GpuStream.*:GpuKernel.*:GpuGraph.*'
# sanitize BINARY TOOL FILTER FLAGS...: findings fail the row, but for those that filter_findings.py
# lists as the vendor's.
sanitize() {
    local binary=$1 tool=$2 filter=$3; shift 3
    compute-sanitizer --tool "$tool" --print-limit 200 --report-api-errors no \
        --target-processes application-only "$@" \
        "$bin/$binary" --gtest_filter="$filter" --gtest_brief=1 >"$out/sanitizer.txt" 2>&1
    python3 "$here/filter_findings.py" "$out/sanitizer.txt"
    local status=$?
    rm -f "$out/sanitizer.txt"
    return $status
}
# The folder of ONNX's node cases, made here.
node_suite() {
    python3 -W ignore "$here/../onnx_suite/generate.py" "$scratch/node" >/dev/null &&
        echo "$scratch/node"
}
verify() {
    python3 "$here/verify.py" "$bin/kn" "$1" --precision "$2" --json "$out/$row.json" "${@:3}"
}
# In several processes at once, as most of the time goes into compiling; alone, what measures the
# device's memory.
eval_suites() {
    local log=$out/eval_suites.txt shards=$(($(nproc) > 8 ? 8 : $(nproc))) status=0 i
    local alone='Gpu*' all='*Gpu*:*Parity*' never='*GpuSoak*:*GpuHuge*'
    "$bin/test_cuda_eval" --gtest_brief=1 --gtest_filter="$alone:-$never" >"$log" 2>&1 || status=1
    for ((i = 0; i < shards; i++)); do
        GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$i \
            "$bin/test_cuda_eval" --gtest_brief=1 --gtest_filter="$all:-$never:$alone" \
            >"$out/shard$i.txt" 2>&1 &
    done
    for ((i = 0; i < shards; i++)); do wait -n || status=1; done
    cat "$out"/shard*.txt >>"$log"; rm -f "$out"/shard*.txt
    grep -v '^Running main\|^Note: This is test shard' "$log"
    awk '/^\[  PASSED  \]/ { passed += $4 } /^\[  FAILED  \].* ms\)$/ { failed++ }
         END { print passed + 0 " PASSED, " failed + 0 " FAILED, in all processes" }' "$log"
    rm -f "$log"
    return $status
}
# The same words as on the CPU, and the right ones.
llama() {
    if ! [ -e "${KN_CACHE:-none}/llama/done" ]; then
        echo "not measured: no model in KN_CACHE/llama (examples/llama/export.py makes it)"
        return 77
    fi
    local ask=("$bin/llama" --model "$KN_CACHE/llama" --prompt) precision answer
    for precision in f32 tf32 f16 bf16; do
        answer=$("${ask[@]}" 'What is the capital of France?' --device cuda --precision $precision)
        echo "$precision: $answer"
        [ "$answer" = 'The capital of France is Paris.' ] || return 1
    done
    diff <("${ask[@]}" 'Tell me about the moon.' --device cpu --tokens 40) \
         <("${ask[@]}" 'Tell me about the moon.' --device cuda --tokens 40)
}
# compare_one FOLDER PRECISION: which step is the first to be wrong; no plan is no fault.
compare_one() {
    local text status
    text=$(timeout 60 "$bin/kn" compare "$1" --precision "$2" 2>&1); status=$?
    if [ $status -eq 0 ] || grep -q 'no GPU plan' <<<"$text"; then return 0; fi
    printf '%s (exit %d):\n%s\n' "$(basename "$1")" $status "$(tail -5 <<<"$text")"
    return 1
}
compare_zoo() {
    printf '%s\n' "$KN_TEST_DATA"/zoo/*/ | xargs -P 8 -I{} bash -c 'compare_one "$@"' _ {} "$1"
}
stable_diffusion() {
    python3 "$here/../stable_diffusion/on_device.py" "$bin/stable_diffusion" \
        "$here/../../examples/stable_diffusion/tiny/model"
}
sd15() {
    python3 "$here/../bench/sd15.py" --program "$bin/stable_diffusion" --out "$out/sd15"
}
peers() {
    python3 "$here/../bench/peers.py" --kn "$bin/kn" --out "$out/peers" --limit 150 --rows "$@"
}

twice='--gtest_brief=1 --gtest_repeat=2'
declare -A run=(
    [cuda_sys]='"$bin/test_cuda_sys"'
    [cuda_sys_twice]='"$bin/test_cuda_sys" $twice --gtest_filter=-GpuThreads.*'
    [cuda_sys_threads]='"$bin/test_cuda_sys" $twice --gtest_filter=GpuThreads.*'
    [dump_device]='diff <("$bin/dump_device" | device_facts) \
                        <(device_facts <"$KN_TEST_DATA/h200.json")'
    [memcheck_core]='sanitize test_cuda_sys memcheck "$core" --leak-check full'
    [memcheck_matmul]='sanitize test_cuda_sys memcheck "GpuMatmul.*" --leak-check full'
    [memcheck_cudnn]='sanitize test_cuda_sys memcheck "GpuCudnn.*" --leak-check full'
    [initcheck_core]='sanitize test_cuda_sys initcheck "$core"'
    [initcheck_matmul]='sanitize test_cuda_sys initcheck "GpuMatmul.*"'
    [initcheck_cudnn]='sanitize test_cuda_sys initcheck "GpuCudnn.*"'
    [racecheck_core]='sanitize test_cuda_sys racecheck "$core"'
    [racecheck_matmul]='sanitize test_cuda_sys racecheck "GpuMatmul.*"'
    [racecheck_cudnn]='sanitize test_cuda_sys racecheck "GpuCudnn.*"'

    [cuda_eval]='eval_suites'
    [devices]='"$bin/kn" devices'
    [zoo_f32]='verify "$KN_TEST_DATA/zoo" f32 --peak 1e-4'
    [zoo_tf32]='verify "$KN_TEST_DATA/zoo" tf32 --peak 5e-3'
    [zoo_f16]='verify "$KN_TEST_DATA/zoo" f16'
    [zoo_bf16]='verify "$KN_TEST_DATA/zoo" bf16'
    [node_f32]='verify "$(node_suite)" f32'
    [node_tf32]='verify "$(node_suite)" tf32'
    [node_f16]='verify "$(node_suite)" f16'
    [node_bf16]='verify "$(node_suite)" bf16'
    [compare_f32]='compare_zoo f32'
    [compare_f16]='compare_zoo f16'
    [huge]='"$bin/test_cuda_eval" --gtest_brief=1 --gtest_filter="*GpuHuge*"'
    [soak]='"$bin/test_cuda_eval" --gtest_brief=1 --gtest_filter="*GpuSoak*"'
    [memcheck_eval]='KN_PARITY_SMALL=1 sanitize test_cuda_eval memcheck "*Parity*" --leak-check full'
    [racecheck_eval]='KN_PARITY_SMALL=1 sanitize test_cuda_eval racecheck "*Parity*"'
    [llama]='llama'
    [stable_diffusion]='stable_diffusion'
    [sd15]='sd15'
    [peers_first]='peers tower-256-f16 resnet50-128-f16 bert-8-f16 resnet50-1-f16'
    [peers_f16]='peers "*-f16"'
    [peers_tf32]='peers "*-tf32"'
    [peers_f32]='peers "*-f32"'
)
order=(cuda_sys cuda_sys_twice cuda_sys_threads dump_device
       memcheck_{core,matmul,cudnn} initcheck_{core,matmul,cudnn} racecheck_{core,matmul,cudnn}
       devices cuda_eval zoo_{f32,f16,tf32,bf16} node_{f32,f16,tf32,bf16} compare_{f32,f16}
       peers_first memcheck_eval racecheck_eval soak huge llama stable_diffusion sd15
       peers_{f16,tf32,f32})

if [ -n "${listing:-}" ]; then printf '%s\n' "${order[@]}"; exit 0; fi
export -f device_facts sanitize node_suite verify eval_suites llama compare_one compare_zoo
export -f stable_diffusion sd15 peers
export bin out here scratch core twice
failed=0
begun=$(date +%s)
for row in "${@:-${order[@]}}"; do
    if grep -q "^$row	0	" "$rows"; then continue; fi
    if [ -z "${run[$row]:-}" ]; then echo "run.sh: no row $row (--list names them)" >&2; exit 2; fi
    left=$((${KN_ROW_BUDGET:-100000} - $(date +%s) + begun))
    if [ "$left" -lt 5 ]; then printf '%s\t-\t0\tnot measured: no time left\n' "$row"; continue; fi
    start=$(date +%s.%N)
    output=$(row=$row timeout -k 5 $((left < limit ? left : limit)) bash -c "${run[$row]}" 2>&1)
    status=$?
    seconds=$(echo "$(date +%s.%N) $start" | awk '{printf "%.1f", $1 - $2}')
    printf '===== %s (exit %d, %s s)\n%s\n' "$row" "$status" "$seconds" "$output" >>"$log"
    facts='suites? ran|FAILED|PASSED|findings|cases,|not measured'
    summary=$(echo "$output" | grep -E "$facts" | tail -1)
    [ "$status" -ne 124 ] || summary="stopped after $seconds s; $summary"
    sed -i "/^$row	/d" "$rows"
    printf '%s\t%d\t%s\t%s\n' "$row" "$status" "$seconds" "$summary" | tee -a "$rows"
    [ "$status" -eq 0 ] || [ "$status" -eq 77 ] || failed=$((failed + 1))
done
for row in "${order[@]}"; do
    grep -q "^$row	" "$rows" || missing="${missing:-} $row"
done
[ -z "${missing:-}" ] || echo "not measured:$missing"
exit "$failed"
