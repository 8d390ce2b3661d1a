// The GPU commands of a build without CUDA.
#include "bench.h"

namespace kn::tool {

namespace {
[[noreturn]] void refuse() { throw DeviceError("this build of kn has no CUDA part"); }
}  // namespace

int bench_cuda(const BenchArgs&, const Device&) { refuse(); }
int compare(const CompareArgs&) { refuse(); }
int explain(const ExplainArgs&) { refuse(); }
std::string plan_text(const DumpArgs&) { refuse(); }

}  // namespace kn::tool
