#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"
#include "lower/lower.h"

namespace kn::cuda {

void Code::line(const std::string& text) {
    text_.append(static_cast<std::size_t>(depth_) * 4, ' ');
    text_ += text;
    text_ += '\n';
}

void Code::open(const std::string& text) {
    blocks_.push_back(text_.size());
    line(text + (text.empty() ? "{" : " {"));
    ++depth_;
}

void Code::close(const std::string& text) {
    --depth_;
    line(text);
    blocks_.pop_back();
}

void Code::enter(std::size_t level) {
    const auto inner = blocks_.begin() + static_cast<std::ptrdiff_t>(level);
    const std::size_t at = inner == blocks_.end() ? text_.size() : *inner;
    aside_.push_back({text_.substr(at), {inner, blocks_.end()}, at, depth_});
    depth_ -= static_cast<int>(blocks_.end() - inner);
    text_.resize(at);
    blocks_.erase(inner, blocks_.end());
}

void Code::leave() {
    Aside aside = std::move(aside_.back());
    aside_.pop_back();
    const std::size_t shift = text_.size() - aside.end;
    for (const std::size_t block : aside.blocks) blocks_.push_back(block + shift);
    depth_ = aside.depth;
    text_ += aside.text;
}

std::string Code::fresh(const std::string& prefix) { return prefix + std::to_string(counter_++); }

std::string KernelOperands::pointer(const TensorRef& tensor, Access access,
                                    const std::string& role) {
    for (std::size_t i = 0; i < list_.size(); ++i) {
        const TensorRef& known = list_[i].tensor;
        if (known.buffer != tensor.buffer || known.offset != tensor.offset ||
            known.dtype != tensor.dtype || list_[i].access != access)
            continue;
        if (checked_size(known.shape) < checked_size(tensor.shape)) list_[i].tensor = tensor;
        return fmt::format("p{}", i);
    }
    list_.push_back({tensor, access, role});
    return fmt::format("p{}", list_.size() - 1);
}

std::string KernelOperands::map(const std::string& pointer, const TensorMapLayout& layout) {
    maps_.push_back({std::stoul(pointer.substr(1)), layout});
    return fmt::format("m{}", maps_.size() - 1);
}

std::string KernelOperands::parameters() const {
    std::string result;
    for (std::size_t i = 0; i < list_.size(); ++i) {
        const bool read = list_[i].access == Access::Read;
        result += fmt::format("{}{}{}* __restrict__ p{}", i == 0 ? "" : ", ", read ? "const " : "",
                              c_type(list_[i].tensor.dtype), i);
    }
    for (std::size_t i = 0; i < maps_.size(); ++i)
        result += fmt::format(", const __grid_constant__ kn_tensor_map m{}", i);
    return result;
}

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// The name that a line "const TYPE NAME = ...;" defines.
std::string_view defined(std::string_view line) {
    const auto start = line.find_first_not_of(' ');
    if (start == std::string_view::npos || line.substr(start, 6) != "const ") return {};
    const auto equals = line.find(" = ");
    if (equals == std::string_view::npos || line.find('{') != std::string_view::npos) return {};
    auto begin = equals;
    while (begin > 0 && is_word(line[begin - 1])) --begin;
    return line.substr(begin, equals - begin);
}

/// The name that "TYPE NAME[N];" and the line behind it, a loop over lanes, define together.
std::string_view defined_lanes(std::string_view declaration, std::string_view loop) {
    const auto at = loop.find("[j] = ");
    if (at == std::string_view::npos || loop.find("KN_UNROLL for (int j") == std::string_view::npos)
        return {};
    auto begin = at;
    while (begin > 0 && is_word(loop[begin - 1])) --begin;
    const std::string_view name = loop.substr(begin, at - begin);
    const bool declares = declaration.find(fmt::format(" {}[", name)) != std::string_view::npos &&
                          declaration.find('=') == std::string_view::npos;
    return declares ? name : std::string_view();
}

/// Leaves out definitions that nothing reads.
std::string without_dead_lines(std::string_view body) {
    std::vector<std::string_view> lines;
    for (std::size_t at = 0; at < body.size();) {
        const auto end = std::min(body.find('\n', at), body.size());
        lines.push_back(body.substr(at, end - at));
        at = end + 1;
    }
    std::set<std::string_view> used;
    std::vector<bool> keep(lines.size(), true);
    for (std::size_t i = lines.size(); i-- > 0;) {
        const std::string_view line = lines[i];
        std::string_view name = defined(line);
        if (!name.empty() && used.count(name) == 0) {
            keep[i] = false;
            continue;
        }
        if (i > 0 && name.empty()) name = defined_lanes(lines[i - 1], line);
        if (!name.empty() && used.count(name) == 0) {
            keep[i] = keep[i - 1] = false;
            --i;
            continue;
        }
        for (std::size_t at = 0; at < line.size();) {
            std::size_t end = at;
            while (end < line.size() && is_word(line[end])) ++end;
            if (end > at && line.substr(at, end - at) != name)
                used.insert(line.substr(at, end - at));
            at = std::max(end, at + 1);
        }
    }
    std::string result;
    for (std::size_t i = 0; i < lines.size(); ++i)
        if (keep[i]) result.append(lines[i]).append("\n");
    return result;
}

/// Goes on from `hash` with FNV-1a's step for each eight bytes and the length: a kernel's text is tens
/// of kilobytes, and each step of a plan asks for its hash.
std::uint64_t hash_of(std::string_view text, std::uint64_t hash = 14695981039346656037ull) {
    const auto mix = [&](std::uint64_t word) {
        hash = (hash ^ word) * 1099511628211ull;
        hash ^= hash >> 29;
    };
    mix(text.size());
    for (std::size_t at = 0; at < text.size(); at += sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + at, std::min(sizeof(word), text.size() - at));
        mix(word);
    }
    return hash;
}

std::string identifier(std::string name) {
    for (char& c : name)
        if (!is_word(c)) c = '_';
    return name;
}

}  // namespace

const std::string& kernel_prelude() {
    static const std::string text =
        std::string(kernel_text("intrinsics")) + std::string(kernel_text("prelude"));
    return text;
}

void add_kernel_step(Placement& placement, const Group& group, const KernelDraft& draft) {
    Plan& plan = placement.plan();
    const std::string signature =
        fmt::format("({}) {{\n{}}}\n", draft.operands.parameters(), without_dead_lines(draft.body));
    const unsigned threads = draft.block.x * draft.block.y * draft.block.z;
    const std::string bounds =
        std::to_string(threads) +
        (draft.blocks_per_sm > 0 ? ", " + std::to_string(draft.blocks_per_sm) : "");
    const std::string entry =
        fmt::format("kn_{}_{:016x}", identifier(draft.name),
                    hash_of(signature, hash_of(draft.helpers, hash_of(bounds))));
    auto found = std::find_if(plan.kernels.begin(), plan.kernels.end(),
                              [&](const PlanKernel& k) { return k.entry == entry; });
    if (found == plan.kernels.end()) {
        plan.kernels.push_back(
            {entry,
             kernel_prelude() + draft.helpers +
                 fmt::format("\nKN_KERNEL __launch_bounds__({}) {}{}", bounds, entry, signature),
             draft.flags, draft.arch, draft.compile_ms});
        found = plan.kernels.end() - 1;
    }
    Step step = step_of(placement.graph(), group, draft.name);
    KernelWork work;
    work.kernel = static_cast<std::size_t>(found - plan.kernels.begin());
    work.grid = draft.grid;
    work.block = draft.block;
    work.cluster = draft.cluster;
    work.maps = draft.operands.maps();
    work.shared_bytes = draft.shared_bytes;
    step.work = work;
    step.operands = draft.operands.list();
    plan.steps.push_back(std::move(step));
}

}  // namespace kn::cuda
