#!/bin/bash
# run.sh BIN OUT [ROW...]: runs the GPU tests of the binaries in folder BIN, row by row, on a machine with a GPU. Results go
# to OUT/rows.tsv (row, exit status, seconds, summary) and OUT/log.txt. A row that rows.tsv already has as passed is not run
# again, so that an interrupted run goes on where it stopped. Exit status: the number of rows that failed.
bin=$(realpath "$1"); out=$2; shift 2
here=$(dirname "$(realpath "$0")")
export KN_TEST_DATA=${KN_TEST_DATA:-$here/../data}
mkdir -p "$out"; rows=$out/rows.tsv; log=$out/log.txt; touch "$rows"

# Where the binaries' own search path finds no CUDA libraries, those of a Python environment will do.
if ldd "$bin/test_cuda_sys" | grep -q 'not found'; then
    site=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
    for lib in "$site"/*/lib /usr/local/cuda/lib64; do LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$lib; done
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}
fi

# What every GPU of the fixture's kind has in common.
device_facts() { tr -d '{}\n' | tr , '\n' | grep -v 'pciDeviceId\|driverVer\|cudaDeviceId' | sort; }

core='GpuDevice.*:GpuMemory.*:GpuStream.*:GpuKernel.*:GpuGraph.*'
sanitize() {  # sanitize TOOL FILTER FLAGS...: findings fail the row, but for those that filter_findings.py lists as the vendor's
    local tool=$1 filter=$2; shift 2
    compute-sanitizer --tool "$tool" --print-limit 200 --report-api-errors no --target-processes application-only "$@" \
        "$bin/test_cuda_sys" --gtest_filter="$filter" --gtest_brief=1 >"$out/sanitizer.txt" 2>&1
    python3 "$here/filter_findings.py" "$out/sanitizer.txt"
    local status=$?
    rm -f "$out/sanitizer.txt"
    return $status
}

declare -A run=(
    [cuda_sys]='"$bin/test_cuda_sys"'
    [cuda_sys_twice]='"$bin/test_cuda_sys" --gtest_brief=1 --gtest_repeat=2 --gtest_filter=-GpuThreads.*'
    [cuda_sys_threads]='"$bin/test_cuda_sys" --gtest_brief=1 --gtest_repeat=2 --gtest_filter=GpuThreads.*'
    [dump_device]='diff <("$bin/dump_device" | device_facts) <(device_facts <"$KN_TEST_DATA/h200.json")'
    [memcheck_core]='sanitize memcheck "$core" --leak-check full'
    [memcheck_matmul]='sanitize memcheck "GpuMatmul.*" --leak-check full'
    [memcheck_cudnn]='sanitize memcheck "GpuCudnn.*" --leak-check full'
    [initcheck_core]='sanitize initcheck "$core"'
    [initcheck_matmul]='sanitize initcheck "GpuMatmul.*"'
    [initcheck_cudnn]='sanitize initcheck "GpuCudnn.*"'
    [racecheck_core]='sanitize racecheck "$core"'
    [racecheck_matmul]='sanitize racecheck "GpuMatmul.*"'
    [racecheck_cudnn]='sanitize racecheck "GpuCudnn.*"'
)
order=(cuda_sys cuda_sys_twice cuda_sys_threads dump_device memcheck_{core,matmul,cudnn} initcheck_{core,matmul,cudnn} racecheck_{core,matmul,cudnn})

failed=0
for row in "${@:-${order[@]}}"; do
    if grep -q "^$row	0	" "$rows"; then continue; fi
    start=$(date +%s.%N)
    output=$(eval "${run[$row]}" 2>&1); status=$?
    seconds=$(echo "$(date +%s.%N) $start" | awk '{printf "%.1f", $1 - $2}')
    printf '===== %s (exit %d, %s s)\n%s\n' "$row" "$status" "$seconds" "$output" >>"$log"
    summary=$(echo "$output" | grep -E 'suites? ran|FAILED|findings' | tail -1)
    sed -i "/^$row	/d" "$rows"
    printf '%s\t%d\t%s\t%s\n' "$row" "$status" "$seconds" "$summary" | tee -a "$rows"
    [ "$status" -eq 0 ] || failed=$((failed + 1))
done
exit "$failed"
