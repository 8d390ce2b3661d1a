#include "stable_diffusion/part.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace sd {

namespace fs = std::filesystem;

namespace {

fs::path model_file(const fs::path& folder, const std::string& name) {
    fs::path file = folder / name / "model.onnx";
    std::error_code error;
    if (!fs::is_regular_file(file, error)) throw std::runtime_error(file.string() + ": is missing");
    return file;
}

// Model caches keep files elsewhere and link to them; the weights then lie beside the linked file.
kn::NetworkOptions with_link_target(const fs::path& file, kn::NetworkOptions options) {
    std::error_code error;
    const fs::path target = fs::canonical(file, error);
    if (!error && fs::is_symlink(file, error))
        options.load.external_roots.push_back(target.parent_path());
    return options;
}

kn::Network load(const fs::path& file, kn::NetworkOptions options) {
    try {
        return kn::Network::load(file, with_link_target(file, std::move(options)));
    } catch (const kn::OnnxError& error) {
        throw kn::OnnxError(error.kind(), file.string() + ": " + error.what());
    }
}

bool holds(const kn::Constraint& constraint, const kn::Bindings& dims) {
    const kn::Dim a = constraint.a.substitute(dims), b = constraint.b.substitute(dims);
    if (!a.is_constant() || !b.is_constant()) return true;
    switch (constraint.kind) {
        case kn::Constraint::Kind::Equal:
            return a.value() == b.value();
        case kn::Constraint::Kind::Broadcast:
            return a.value() == b.value() || a.value() == 1 || b.value() == 1;
        case kn::Constraint::Kind::NotNegative:
            return a.value() >= 0;
    }
    return true;
}

}  // namespace

Part::Part(const fs::path& folder, const std::string& name, kn::NetworkOptions options)
    : name_(name), file_(model_file(folder, name)), network_(load(file_, std::move(options))) {
    if (network_.info().inputs.empty() || network_.info().outputs.empty())
        throw std::runtime_error(file_.string() + ": has no inputs or no outputs");
}

const kn::OnnxInfo::Port* Part::input(const std::string& name) const {
    const auto& inputs = network_.info().inputs;
    const auto found = std::ranges::find(inputs, name, &kn::OnnxInfo::Port::name);
    return found == inputs.end() ? nullptr : &*found;
}

std::optional<std::int64_t> Part::fixed_dim(const kn::OnnxInfo::Port& port,
                                            std::size_t axis) const {
    if (!port.shape || port.shape->rank() <= axis) return {};
    return (*port.shape)[axis].constant();
}

// Errors name the file, since a run has several networks.
std::vector<kn::Tensor> Part::run_named(const Tensors& inputs) {
    try {
        return network_.run(inputs);
    } catch (const kn::GraphError& error) {
        throw kn::GraphError(file_.string() + ": " + error.what());
    }
}

Tensors Part::run_whole(const Tensors& inputs) {
    Tensors converted;
    for (const auto& [name, tensor] : inputs) {
        const kn::OnnxInfo::Port* port = input(name);
        const kn::DType wanted = port && port->dtype ? *port->dtype : tensor.dtype();
        converted[name] = tensor.dtype() == wanted ? tensor : tensor.cast(wanted);
    }
    const std::vector<kn::Tensor> outputs = run_named(converted);
    Tensors out;
    for (std::size_t i = 0; i < outputs.size(); i++)
        out[output_names()[i]] =
            outputs[i].dtype() == kn::DType::F32 ? outputs[i] : outputs[i].cast(kn::DType::F32);
    return out;
}

Tensors Part::run(const Tensors& inputs, const std::string& batch_input) {
    const kn::OnnxInfo::Port* main = input(batch_input);
    const std::int64_t batch = inputs.at(batch_input).shape().at(0);
    const std::optional<std::int64_t> fixed = main ? fixed_dim(*main, 0) : std::nullopt;
    if (!fixed || *fixed == batch) return run_whole(inputs);
    std::map<std::string, std::vector<kn::Tensor>> parts;
    for (std::int64_t from = 0; from < batch; from += *fixed) {
        const std::int64_t to = std::min(from + *fixed, batch);
        Tensors portion;
        for (const auto& [name, tensor] : inputs) {
            const kn::OnnxInfo::Port* port = input(name);
            if (!port || fixed_dim(*port, 0) != fixed || tensor.rank() == 0 ||
                tensor.shape()[0] != batch) {
                portion[name] = tensor;
                continue;
            }
            std::vector<kn::Tensor> filled = {rows(tensor, from, to)};
            for (std::int64_t k = to - from; k < *fixed; k++)
                filled.push_back(rows(tensor, to - 1, to));
            portion[name] = concat_rows(filled);
        }
        for (auto& [name, tensor] : run_whole(portion))
            parts[name].push_back(rows(tensor, 0, to - from));
    }
    Tensors out;
    for (const auto& [name, tensors] : parts) out[name] = concat_rows(tensors);
    return out;
}

std::optional<kn::Bindings> Part::bindings(const std::string& name, const kn::Ints& sizes) const {
    const kn::Graph& graph = network_.graph();
    const std::optional<kn::Value> value = graph.find_input(name);
    if (!value) return {};
    const kn::Shape& shape = graph.shape(*value);
    if (shape.rank() != sizes.size()) return {};
    kn::Bindings out;
    for (std::size_t axis = 0; axis < sizes.size(); axis++) {
        if (const auto solved = shape[axis].solve(sizes[axis])) {
            const auto [at, is_new] = out.insert(*solved);
            if (!is_new && at->second != solved->second) return {};
        } else if (!shape[axis].is_constant() || (axis > 0 && shape[axis].value() != sizes[axis])) {
            return {};
        }
    }
    return out;
}

bool Part::takes(const std::string& name, const kn::Ints& sizes) const {
    try {
        const std::optional<kn::Bindings> dims = bindings(name, sizes);
        if (!dims) return false;
        return std::ranges::all_of(network_.graph().constraints(),
                                   [&](const kn::Constraint& c) { return holds(c, *dims); });
    } catch (const kn::NeedsValues&) {
        return true;  // nothing is known before it runs
    } catch (const kn::GraphError&) {
        return false;
    }
}

std::optional<kn::Ints> Part::output_sizes(const std::string& name, const kn::Ints& sizes) const {
    try {
        const std::optional<kn::Bindings> dims = bindings(name, sizes);
        if (!dims) return {};
        const kn::Graph& graph = network_.graph();
        const kn::Shape shape = graph.shape(graph.outputs().at(0).value).substitute(*dims);
        if (shape.is_static()) return shape.to_ints();
    } catch (const kn::GraphError&) {
    } catch (const kn::NeedsValues&) {
    }
    return {};
}

std::size_t Part::parameters() const {
    std::size_t sum = 0;
    try {
        const kn::Graph& graph = network_.graph();
        for (const kn::Value value : graph.live())
            if (const auto* constant = graph.get_if<kn::op::Constant>(value))
                sum += static_cast<std::size_t>(constant->data->tensor.size());
    } catch (const kn::NeedsValues&) {
        return 0;
    }
    return sum;
}

kn::Tensor rows(const kn::Tensor& tensor, std::int64_t from, std::int64_t to) {
    kn::Ints shape = tensor.shape();
    const std::size_t row =
        tensor.byte_size() / static_cast<std::size_t>(std::max<std::int64_t>(shape.at(0), 1));
    shape[0] = to - from;
    return kn::Tensor::from_bytes(
        tensor.dtype(), shape,
        tensor.bytes().subspan(static_cast<std::size_t>(from) * row,
                               static_cast<std::size_t>(to - from) * row));
}

kn::Tensor concat_rows(const std::vector<kn::Tensor>& tensors) {
    kn::Ints shape = tensors.at(0).shape();
    shape[0] = 0;
    for (const kn::Tensor& tensor : tensors) shape[0] += tensor.shape()[0];
    kn::Tensor out(tensors[0].dtype(), shape);
    std::byte* to = out.mutable_bytes().data();
    for (const kn::Tensor& tensor : tensors) {
        std::memcpy(to, tensor.bytes().data(), tensor.byte_size());
        to += tensor.byte_size();
    }
    return out;
}

}  // namespace sd
