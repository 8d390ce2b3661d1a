#include "lower/special.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/core.h>

#include "codegen/kernel_text.h"
#include "lower/lower.h"

namespace kn::cuda {

namespace {

/// Axes whose elements lie at equal distances are one axis.
TensorRef merged(const TensorRef& tensor, const Ints& axes) {
    TensorRef out = tensor;
    out.shape.clear();
    out.strides.clear();
    for (const std::int64_t axis : axes) {
        const auto a = static_cast<std::size_t>(axis);
        if (tensor.shape[a] == 1) continue;
        if (!out.shape.empty() && out.strides.back() == tensor.strides[a] * tensor.shape[a]) {
            out.shape.back() *= tensor.shape[a];
            out.strides.back() = tensor.strides[a];
        } else {
            out.shape.push_back(tensor.shape[a]);
            out.strides.push_back(tensor.strides[a]);
        }
    }
    return out;
}

AxisGroups one_each(std::size_t rank) {
    AxisGroups groups;
    for (std::size_t a = 0; a < rank; ++a) groups.push_back({static_cast<std::int64_t>(a)});
    return groups;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// The name that a one-line declaration of the body's outermost scope introduces.
std::string_view declared(std::string_view line) {
    const bool declares = line.starts_with("    const auto ") ||
                          line.starts_with("    constexpr ") || line.starts_with("    using ");
    const auto equals = line.find(" = ");
    if (!declares || equals == std::string_view::npos || !line.ends_with(';')) return {};
    auto begin = equals;
    while (begin > 0 && is_word(line[begin - 1])) --begin;
    return line.substr(begin, equals - begin);
}

/// The declarations that `rest`, or a declaration kept, mentions; and all other lines.
std::string used_lines(std::string_view text, std::string_view rest) {
    std::set<std::string_view> words;
    const auto read = [&](std::string_view part) {
        for (std::size_t at = 0, end = 0; at < part.size(); at = std::max(end, at + 1)) {
            if (part.substr(at, 2) == "//") at = std::min(part.find('\n', at), part.size());
            end = at;
            while (end < part.size() && is_word(part[end])) ++end;
            const bool member = at > 0 && part[at - 1] == '.';
            if (end > at && !member) words.insert(part.substr(at, end - at));
        }
    };
    read(rest);
    std::string kept;
    while (!text.empty()) {
        const auto before =
            text.size() < 2 ? std::string_view::npos : text.rfind('\n', text.size() - 2);
        const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
        const std::string_view line = text.substr(begin, text.size() - begin - 1);
        const std::string_view name = declared(line);
        if (name.empty() || words.count(name)) {
            read(line);
            kept.insert(0, text.substr(begin));
        }
        text.remove_suffix(text.size() - begin);
    }
    return kept;
}

}  // namespace

HandKernel::HandKernel(Placement& placement, std::string_view text_name)
    : placement_(placement), text_(kernel_text(text_name)) {}

std::pair<std::string, std::string> HandKernel::offset(const TensorRef& tensor,
                                                       const AxisGroups& groups) {
    TensorRef strided = tensor;
    strided.shape.clear();
    strided.strides.clear();
    Index index;
    std::string parameters;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        const std::string name = "i" + std::to_string(g);
        parameters += (g ? ", Int " : "Int ") + name;
        const TensorRef part = merged(tensor, groups[g]);
        std::int64_t inner = elements_of(part);
        for (std::size_t a = 0; a < part.shape.size(); ++a) {
            inner /= std::max<std::int64_t>(part.shape[a], 1);
            std::string text = name;
            if (inner > 1) text = fmt::format("{} / {}", text, inner);
            if (a > 0) text = fmt::format("{} % {}", text, part.shape[a]);
            index.push_back(text == name ? text : fmt::format("({})", text));
        }
        strided.shape.insert(strided.shape.end(), part.shape.begin(), part.shape.end());
        strided.strides.insert(strided.strides.end(), part.strides.begin(), part.strides.end());
    }
    return {offset_text(strided.strides, index), parameters};
}

void HandKernel::declare(const std::string& name, const TensorRef& tensor, Access access,
                         const AxisGroups& groups, bool reads) {
    const std::string pointer = operands_.pointer(tensor, access, name);
    const auto [offset, parameters] =
        this->offset(tensor, groups.empty() ? one_each(tensor.shape.size()) : groups);
    const std::string separator = parameters.empty() ? "" : ", ";
    type(name + "_t", c_type(tensor.dtype));
    function(name + "_at", parameters, pointer + " + (" + offset + ")");
    const std::string element = pointer + "[" + offset + "]";
    if (reads)
        function(name, parameters, "kn_widen(" + element + ")");
    else
        line("const auto " + name + " = [&](" + parameters + separator +
             compute_type(tensor.dtype) + " value) { " + element + " = " +
             as_stored(tensor, "value") + "; };");
}

void HandKernel::read(const std::string& name, const TensorRef& tensor, AxisGroups groups) {
    declare(name, tensor, Access::Read, groups, true);
}

void HandKernel::write(const std::string& name, const TensorRef& tensor, AxisGroups groups,
                       Access access) {
    declare(name, tensor, access, groups, false);
}

void HandKernel::pointer(const std::string& name, const TensorRef& tensor, Access access) {
    line("auto* const " + name + " = " + operands_.pointer(tensor, access, name) + ";");
}

void HandKernel::constant(const std::string& name, std::int64_t value) {
    const bool wide = value > INT32_MAX || value < INT32_MIN;
    line(std::string("constexpr ") + (wide ? "long long " : "int ") + name + " = " +
         std::to_string(value) + ";");
}

void HandKernel::type(const std::string& name, const std::string& type) {
    line("using " + name + " = " + type + ";");
}

void HandKernel::line(const std::string& text) { code_.line(text); }

void HandKernel::function(const std::string& name, const std::string& parameters,
                          const std::string& expression) {
    line("const auto " + name + " = [&](" + parameters + ") { return " + expression + "; };");
}

void HandKernel::add_step(const Group& group, const std::string& name, std::int64_t blocks,
                          unsigned threads, bool last) {
    constexpr std::int64_t kMostBlocks = INT32_MAX;
    if (blocks > kMostBlocks) throw GraphError("too many elements for one launch");
    std::int64_t most = blocks * threads;
    for (const Operand& operand : operands_.list())
        most = std::max(most, elements_of(operand.tensor));
    KernelDraft draft;
    draft.name = name;
    draft.body = std::string("    using Int = ") + (most > INT32_MAX ? "long long" : "int") +
                 ";\n" + used_lines(code_.text(), text_) + std::string(text_);
    draft.operands = operands_;
    draft.grid = {static_cast<unsigned>(blocks), 1, 1};
    draft.block = {threads, 1, 1};
    draft.shared_bytes = shared_bytes_;
    draft.blocks_per_sm = blocks_per_sm_;
    Group part = group;
    if (!last) part.outputs.clear();
    add_kernel_step(placement_, part, draft);
}

TensorRef operand_of(Placement& placement, Value value) {
    if (const auto view = placement.view(value)) return *view;
    return placement.copy_of(value, row_major(placement.graph().shape(value).rank()));
}

std::optional<TensorRef> result_of(const Placement& placement, const Group& group,
                                   std::size_t index) {
    for (const Value& value : group.outputs) {
        const auto* result = placement.graph().get_if<op::Result>(value);
        const std::size_t at = result ? static_cast<std::size_t>(result->index) : 0;
        if (at == index) return placement.stored(value);
    }
    return std::nullopt;
}

AxisGroups lanes_along(std::size_t rank, std::int64_t axis) {
    Ints others;
    for (std::size_t a = 0; a < rank; ++a)
        if (static_cast<std::int64_t>(a) != axis) others.push_back(static_cast<std::int64_t>(a));
    return {others, {axis}};
}

std::int64_t elements_of(const TensorRef& tensor) {
    std::int64_t count = 1;
    for (const std::int64_t size : tensor.shape) count *= size;
    return count;
}

std::string offset_text(const Ints& strides, const Index& index) {
    std::string text;
    for (std::size_t a = 0; a < strides.size(); ++a) {
        if (strides[a] == 0 || index[a] == "0") continue;
        text += text.empty() ? "" : " + ";
        text += strides[a] == 1 ? index[a] : index[a] + " * " + std::to_string(strides[a]);
    }
    return text.empty() ? "0" : text;
}

std::string sum_type(DType dtype) {
    if (dtype == DType::F64) return "double";
    return is_float(dtype) ? "float" : "long long";
}

void lower_special(Placement& placement, const Group& group) {
    const Graph& graph = placement.graph();
    const Operation& operation = graph[group.anchor].operation;
    if (graph.get_if<op::Conv>(group.anchor) || graph.get_if<op::ConvTranspose>(group.anchor))
        return lower_direct_conv(placement, group);
    if (graph.get_if<op::Attention>(group.anchor)) return lower_direct_attention(placement, group);
    if (graph.get_if<op::TopK>(group.anchor)) return lower_top_k(placement, group);
    if (graph.get_if<op::Cumulative>(group.anchor)) return lower_cumulative(placement, group);
    if (graph.get_if<op::ScatterElements>(group.anchor) ||
        graph.get_if<op::ScatterNd>(group.anchor))
        return lower_scatter(placement, group);
    if (graph.get_if<op::Recurrent>(group.anchor)) return lower_recurrent(placement, group);
    if (graph.get_if<op::Dft>(group.anchor)) return lower_dft(placement, group);
    throw GraphError("no kernel for " + std::string(name_of(operation)));
}

}  // namespace kn::cuda
