// LeakSanitizer calls this. Without a driver, cuDNN's heuristics leak what their failed
// cublasLtCreate allocated.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions() {
    return "leak:cublasLtCreate\n";
}
