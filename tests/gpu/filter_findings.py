"""filter_findings.py FILE: sums up compute-sanitizer's output; exits 1 for findings in kn's own code or failed tests.

A finding is the vendor's when its kernel is one of a CUDA library, which VENDOR describes, or when a leak's backtrace
leads into one without passing kn::cuda's allocators."""
import re
import sys
from collections import Counter

VENDOR = re.compile(r"cudnn|cublas|cutlass|cask|xmma|gemm|sm\d+_|nvjet|flash|fprop|dgrad|_generated|splitK|"
                    r"convolve|winograd|scalePackedTensor|nchwToNhwc|nhwcToNchw", re.I)

text = open(sys.argv[1], errors="replace").read()
blocks, current = [], []
for line in text.splitlines():
    if not line.startswith("========="):
        print(line)
        continue
    body = line[9:].strip()
    if not body:
        current = []
        continue
    if re.match(r"(Invalid|Uninitialized|Unused|Leaked|Error: Race|Warning: Race|Race reported|Misaligned|Program hit|"
                r"Potential|Barrier|Double|Out-of-bounds|Host)", body):
        current = [body]
        blocks.append(current)
    elif current:
        current.append(body)

own, vendor = [], Counter()
for block in blocks:
    whole = "\n".join(block)
    kernel = re.search(r"(?:in kernel|at|in) ([^\n]*?)\+0x", whole)
    name = kernel.group(1) if kernel else whole.splitlines()[0]
    if block[0].startswith("Leaked"):
        is_vendor = "libcudnn" in whole or "libcublas" in whole
    else:
        is_vendor = bool(VENDOR.search(name))
    if is_vendor:
        vendor[(block[0].split(" at ")[0][:60], name[:90])] += 1
    else:
        own.append(whole)

for (kind, name), count in vendor.most_common():
    print(f"vendor: {count} x {kind}: {name}")
for whole in own[:20]:
    print("OWN:", whole)
summary = re.findall(r"========= (?:ERROR SUMMARY|LEAK SUMMARY|RACECHECK SUMMARY)[^\n]*", text)
print(*summary, sep="\n")
passed = "[  PASSED  ]" in text and "[  FAILED  ]" not in text
print(f"findings: {len(own)} own, {sum(vendor.values())} in the vendor's kernels; tests {'passed' if passed else 'FAILED'}")
sys.exit(0 if passed and not own else 1)
