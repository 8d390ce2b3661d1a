#include "onnx/problems.h"

#include <fmt/core.h>

#include <kn/graph/onnx.h>

namespace kn::onnx {

namespace {
constexpr std::size_t max_listed = 100;
}

void fail_broken(const std::string& reason) { throw Failure{Kind::BrokenFile, reason, {}}; }

void fail_unsupported(const std::string& reason) { throw Failure{Kind::Unsupported, reason, {}}; }

void Problems::add(const std::string& where, Failure failure) {
    std::string text = printable(
        where.empty() ? failure.reason : fmt::format("{}: {}", where, failure.reason), 1000);
    if (seen_.insert(text).second) lines_.push_back({std::move(text), std::move(failure)});
}

std::vector<std::string> Problems::lines() const {
    std::vector<std::string> result;
    for (const Line& line : lines_) {
        if (result.size() == max_listed) {
            result.push_back(fmt::format("... and {} more problems", lines_.size() - max_listed));
            break;
        }
        result.push_back(line.text);
    }
    return result;
}

void Problems::raise_if_any() const {
    if (lines_.empty()) return;
    std::string message;
    for (const std::string& line : lines()) message += (message.empty() ? "" : "\n") + line;
    std::set<std::string> inputs;
    bool only_values = true, broken = false;
    for (const Line& line : lines_) {
        only_values = only_values && !line.failure.inputs.empty();
        broken = broken || line.failure.kind == Kind::BrokenFile;
        inputs.insert(line.failure.inputs.begin(), line.failure.inputs.end());
    }
    if (only_values) throw NeedsValues(message, {inputs.begin(), inputs.end()});
    throw OnnxError(broken ? Kind::BrokenFile : Kind::Unsupported, message);
}

}  // namespace kn::onnx
