#!/bin/sh
# make.sh STUB OUTPUT: C source of a libcuda without a device, with every symbol of the toolkit's
# stub. Loading code succeeds and everything else fails, which is what cuDNN needs to plan and build
# run-time fusions.
set -e
nm -D --defined-only "$1" | awk '
    $2 == "T" { name = $3; sub(/@.*/, "", name); if (!seen[name]++) names[++n] = name }
    END {
        for (i = 1; i <= n; ++i) {
            name = names[i]
            if (name == "cuDriverGetVersion") body = "*(int*)a = 13000; return 0;"
            else if (name == "cuDeviceGetCount") body = "*(int*)a = 0; return 0;"
            else if (name ~ /^cuInit$/) body = "return 100;"
            else if (name ~ /^cu(LibraryLoadData|LibraryGetKernel|ModuleLoad|ModuleGetFunction)/)
                body = "if (a) *(void**)a = &token; return 0;"
            else if (name ~ /^cu(LibraryUnload|ModuleUnload|KernelSetAttribute|FuncSetAttribute)/)
                body = "return 0;"
            else body = "return 34;"
            printf "extern \"C\" int %s(void* a) { (void)a; %s }\n", name, body
        }
    }' >"$2.body"
{ echo "static char token;"; cat "$2.body"; } >"$2"
rm "$2.body"
