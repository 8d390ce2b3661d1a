#include "executor/overlap.h"

#include <cctype>

#include "codegen/emit.h"

namespace kn::cuda {

namespace {

// The position behind the '{' of the entry point's body.
std::size_t body_start(const std::string& source, const std::string& entry) {
    for (std::size_t at = source.find(entry); at != std::string::npos;
         at = source.find(entry, at + 1)) {
        std::size_t next = at + entry.size();
        while (next < source.size() && std::isspace(static_cast<unsigned char>(source[next])))
            next++;
        if (next >= source.size() || source[next] != '(') continue;
        int depth = 0;
        for (; next < source.size(); next++) {
            depth += source[next] == '(' ? 1 : source[next] == ')' ? -1 : 0;
            if (depth == 0) break;
        }
        const std::size_t brace = source.find_first_not_of(" \n\t)", next);
        if (brace != std::string::npos && source[brace] == '{') return brace + 1;
    }
    KN_CHECK(false, entry);
}

}  // namespace

bool can_overlap(int compute) { return compute >= 90; }

PlanKernel with_wait(PlanKernel kernel) {
    if (kernel.source.find("kn_wait_for_previous()") != std::string::npos) {
        const std::string& prelude = kernel_prelude();
        KN_CHECK(kernel.source.starts_with(prelude), kernel.entry);
        kernel.source.insert(prelude.size(), "#define KN_STARTS_EARLY\n");
        kernel.source += "#undef KN_STARTS_EARLY\n";
        return kernel;
    }
    kernel.source.insert(body_start(kernel.source, kernel.entry),
                         "\n    asm volatile(\"griddepcontrol.wait;\" ::: \"memory\");"
                         "\n    asm volatile(\"griddepcontrol.launch_dependents;\");\n");
    return kernel;
}

bool may_overlap(const Plan& plan, std::size_t index, Overlap overlap) {
    if (overlap == Overlap::None || index == 0 ||
        !std::holds_alternative<KernelWork>(plan.steps[index].work))
        return false;
    const auto& before = plan.steps[index - 1].work;
    return overlap == Overlap::All ? !std::holds_alternative<ClearWork>(before)
                                   : std::holds_alternative<KernelWork>(before);
}

}  // namespace kn::cuda
