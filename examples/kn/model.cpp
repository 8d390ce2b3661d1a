#include "model.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace kn::tool {

namespace fs = std::filesystem;

Precision parse_precision(const std::string& text) {
    for (const Precision p :
         {Precision::F32, Precision::F64, Precision::TF32, Precision::F16, Precision::BF16})
        if (text == name_of(p)) return p;
    throw UsageError("--precision " + printable(text) + ": expected f64, f32, tf32, f16 or bf16");
}

Device parse_device(const std::string& text) {
    if (text == "cpu") return Device::cpu();
    if (text == "auto") return Device::best();
    if (text == "cuda") return Device::cuda(0);
    if (text.starts_with("cuda:")) {
        int index = -1;
        const auto [end, error] =
            std::from_chars(text.data() + 5, text.data() + text.size(), index);
        if (error == std::errc() && end == text.data() + text.size() && index >= 0)
            return Device::cuda(index);
    }
    throw UsageError("--device " + printable(text) + ": expected cpu, cuda, cuda:N or auto");
}

Bindings parse_dims(const std::vector<std::string>& dims) {
    Bindings out;
    for (const std::string& text : dims) {
        const std::size_t at = text.rfind('=');
        std::int64_t value = -1;
        if (at != std::string::npos && at > 0) {
            const auto [end, error] =
                std::from_chars(text.data() + at + 1, text.data() + text.size(), value);
            if (error != std::errc() || end != text.data() + text.size()) value = -1;
        }
        if (value < 0) throw UsageError("--dim " + printable(text) + ": expected NAME=N");
        out[text.substr(0, at)] = value;
    }
    return out;
}

NetworkOptions network_options(const ModelFlags& flags) {
    NetworkOptions out;
    out.device = parse_device(flags.device);
    out.precision = parse_precision(flags.precision);
    out.threads = flags.threads;
    out.optimize = !flags.raw;
    out.load.dims = parse_dims(flags.dims);
    return out;
}

fs::path model_file(const std::string& path) {
    std::error_code error;
    const fs::path file =
        fs::is_directory(path, error) ? fs::path(path) / "model.onnx" : fs::path(path);
    if (!fs::exists(file, error)) throw UsageError(printable(file.string()) + ": no such file");
    return file;
}

std::vector<fs::path> data_sets(const fs::path& case_folder) {
    std::vector<fs::path> out;
    for (int k = 0;; k++) {
        fs::path folder = case_folder / ("test_data_set_" + std::to_string(k));
        std::error_code error;
        if (!fs::is_directory(folder, error)) return out;
        out.push_back(std::move(folder));
    }
}

std::vector<Recorded> read_recorded(const fs::path& data_set, const std::string& prefix) {
    std::vector<Recorded> out;
    for (int i = 0;; i++) {
        const fs::path file = data_set / (prefix + "_" + std::to_string(i) + ".pb");
        std::error_code error;
        if (!fs::exists(file, error)) return out;
        Recorded recorded;
        recorded.tensor = read_tensor_pb(file, &recorded.name);
        out.push_back(std::move(recorded));
    }
}

std::map<std::string, Tensor> match_inputs(const OnnxInfo& info, std::vector<Recorded> recorded) {
    const bool by_name = std::ranges::all_of(recorded, [&](const Recorded& r) {
        return std::ranges::any_of(info.inputs,
                                   [&](const OnnxInfo::Port& port) { return port.name == r.name; });
    });
    if (!by_name && recorded.size() > info.inputs.size())
        throw UsageError(std::to_string(recorded.size()) + " recorded inputs for a model of " +
                         std::to_string(info.inputs.size()));
    std::map<std::string, Tensor> out;
    for (std::size_t i = 0; i < recorded.size(); i++)
        out.insert_or_assign(by_name ? recorded[i].name : info.inputs[i].name,
                             std::move(recorded[i].tensor));
    return out;
}

namespace {

Tensor random_input(const OnnxInfo::Port& port, const ModelFlags& flags, Random& random) {
    if (!port.dtype || !port.shape)
        throw UsageError("input '" + printable(port.name) +
                         "' cannot be made up: its type is not known; give it by --input");
    Shape shape = port.shape->substitute(parse_dims(flags.dims));
    if (!shape.is_static())
        throw UsageError("input '" + printable(port.name) + "' has shape " + shape.to_string() +
                         ": give its dims by --dim, or a file by --input");
    // Of large tensors a part is random, and repeated: making millions of normal numbers takes
    // longer than a GPU's set-up.
    constexpr std::int64_t enough = 1 << 20;
    Tensor all(*port.dtype, shape.to_ints());
    if (all.size() <= enough) return random_tensor(*port.dtype, shape.to_ints(), random);
    const Tensor some = random_tensor(*port.dtype, {enough}, random);
    const auto from = some.bytes();
    const auto to = all.mutable_bytes();
    for (std::size_t at = 0; at < to.size(); at += from.size())
        std::copy_n(from.data(), std::min(from.size(), to.size() - at), to.data() + at);
    return all;
}

}  // namespace

std::map<std::string, Tensor> make_inputs(const OnnxInfo& info,
                                          const std::vector<std::string>& names,
                                          const std::string& path, const ModelFlags& flags,
                                          const std::vector<std::string>& given, int data_set,
                                          std::uint64_t seed) {
    std::map<std::string, Tensor> out;
    for (const std::string& text : given) {
        const std::size_t at = text.find('=');
        if (at == std::string::npos || at == 0)
            throw UsageError("--input " + printable(text) + ": expected NAME=FILE.npy");
        try {
            out[text.substr(0, at)] = read_npy(text.substr(at + 1));
        } catch (const GraphError& error) {
            throw UsageError(error.what());
        }
    }
    const auto sets = fs::is_directory(path) ? data_sets(path) : std::vector<fs::path>();
    if (!sets.empty()) {
        if (data_set < 0 || static_cast<std::size_t>(data_set) >= sets.size())
            throw UsageError("--data-set " + std::to_string(data_set) + ": the case has " +
                             std::to_string(sets.size()));
        for (auto& [name, tensor] :
             match_inputs(info, read_recorded(sets[static_cast<std::size_t>(data_set)], "input")))
            out.try_emplace(name, std::move(tensor));
    }
    Random random(seed);
    for (const std::string& name : names) {
        if (out.count(name)) continue;
        const auto port = std::ranges::find_if(
            info.inputs, [&](const OnnxInfo::Port& p) { return p.name == name; });
        out[name] = random_input(*port, flags, random);
    }
    return out;
}

StaticModel static_model(const std::string& path, const ModelFlags& flags,
                         const std::vector<std::string>& given, int data_set, std::uint64_t seed) {
    using Clock = std::chrono::steady_clock;
    StaticModel out;
    auto start = Clock::now();
    const auto done_with = [&](const std::string& name) {
        const double ms = ms_since(start);
        out.timings.push_back({name, start, ms});
        start = Clock::now();
        return ms;
    };
    const fs::path file = model_file(path);
    LoadOptions load = network_options(flags).load;
    std::optional<OnnxModel> model;
    std::exception_ptr failure;
    std::vector<std::string> to_fix;
    const auto try_load = [&] {
        try {
            model = load_onnx_model(file, load);
        } catch (const NeedsValues& error) {
            failure = std::current_exception();
            to_fix = error.inputs_to_fix();
        }
    };
    try_load();
    const OnnxInfo info = model ? std::move(model->info) : read_onnx_info(file);
    out.load_ms = done_with("file read");
    std::vector<std::string> names;
    for (const OnnxInfo::Port& port : info.inputs)
        if (!std::ranges::count(info.defaulted_inputs, port.name)) names.push_back(port.name);
    const auto inputs = make_inputs(info, names, path, flags, given, data_set, seed);
    done_with("inputs made up or read");
    for (const std::string& name : info.defaulted_inputs)
        if (inputs.count(name)) load.override_defaults.push_back(name);
    if (!load.override_defaults.empty()) {
        model.reset();
        try_load();
    }
    // Each round fixes the content of at least one input more.
    for (std::size_t round = 0; !model; round++) {
        for (const std::string& name : to_fix)
            if (const auto found = inputs.find(name); found != inputs.end())
                load.values.insert(*found);
        if (round > inputs.size()) std::rethrow_exception(failure);
        try_load();
    }
    out.load_ms += done_with("file read with what it asks of inputs");
    out.graph = std::move(model->graph);
    if (!flags.raw) out.graph = optimize(out.graph);
    std::vector<Ints> shapes;
    for (const NamedValue& input : out.graph.inputs()) {
        out.inputs.push_back(inputs.at(input.name));
        shapes.push_back(out.inputs.back().shape());
        if (out.inputs.back().dtype() != out.graph.dtype(input.value))
            throw UsageError("input '" + printable(input.name) + "' is " +
                             out.inputs.back().type_string() + ", expected " +
                             std::string(name_of(out.graph.dtype(input.value))));
    }
    out.graph = out.graph.bind(out.graph.infer_bindings(shapes));
    out.optimize_ms = done_with("optimised, bound to sizes");
    return out;
}

}  // namespace kn::tool
