#include <kn/graph/network.h>

#include <algorithm>
#include <deque>
#include <future>
#include <optional>
#include <set>

#include "network/variant.h"

namespace kn {

namespace {

// What makes one variant differ from another.
struct VariantKey {
    std::vector<std::string> given_defaults;  // sorted
    std::map<std::string, Tensor> values;

    bool operator==(const VariantKey& other) const {
        const auto same = [](const auto& a, const auto& b) {
            return a.first == b.first && a.second.dtype() == b.second.dtype() &&
                   a.second.shape() == b.second.shape() &&
                   std::ranges::equal(a.second.bytes(), b.second.bytes());
        };
        return given_defaults == other.given_defaults &&
               std::ranges::equal(values, other.values, same);
    }
};

struct Variant {
    VariantKey key;
    std::shared_ptr<NetworkVariant> network;
};

}  // namespace

struct Network::State {
    NetworkOptions options;
    std::filesystem::path path;  // empty: from bytes or a graph
    std::vector<std::byte> bytes;
    bool has_source = false;  // false: from a graph, one variant for good
    OnnxInfo info;
    std::vector<std::string> required, optional, outputs;
    std::vector<std::string> deciding;  // inputs whose content decides the structure

    std::mutex mutex;
    std::deque<Variant> variants;  // the last used first
    static constexpr std::size_t max_variants = 8;
    double load_ms = 0;
    std::shared_ptr<void> warm_up;

    OnnxModel load(const VariantKey& key) {
        const StopWatch watch(load_ms);
        LoadOptions load = options.load;
        load.values.insert(key.values.begin(), key.values.end());
        load.override_defaults.insert(load.override_defaults.end(), key.given_defaults.begin(),
                                      key.given_defaults.end());
        return path.empty() ? load_onnx_model(bytes, load) : load_onnx_model(path, load);
    }

    std::shared_ptr<NetworkVariant> variant(const VariantKey& key) {
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < variants.size(); i++) {
            if (!(variants[i].key == key)) continue;
            std::rotate(variants.begin(), variants.begin() + static_cast<std::ptrdiff_t>(i),
                        variants.begin() + static_cast<std::ptrdiff_t>(i) + 1);
            return variants.front().network;
        }
        KN_CHECK(has_source, "a network out of a graph has one variant");
        variants.push_front({key, std::make_shared<NetworkVariant>(load(key).graph, options)});
        if (variants.size() > max_variants) variants.pop_back();
        return variants.front().network;
    }

    void start() {
        // The CPU has nothing to warm up, and malloc is slower in a process that had a thread.
        const bool beside = options.device.kind() != Device::Kind::Cpu;
        auto device = std::async(beside ? std::launch::async : std::launch::deferred, [&] {
            return backend_for(options.device)->warm_up(options.device);
        });
        std::optional<OnnxModel> model;
        try {
            model = load({});
            info = std::move(model->info);
        } catch (const NeedsValues& error) {
            deciding = error.inputs_to_fix();
            info = path.empty() ? read_onnx_info(bytes) : read_onnx_info(path);
        } catch (...) {
            device.get();  // a device that is not there is said first
            throw;
        }
        warm_up = device.get();
        if (model)
            variants.push_front(
                {{}, std::make_shared<NetworkVariant>(std::move(model->graph), options)});
        const auto has_default = [&](const std::string& name) {
            return std::ranges::count(info.defaulted_inputs, name) > 0 &&
                   std::ranges::count(options.load.override_defaults, name) == 0;
        };
        for (const OnnxInfo::Port& port : info.inputs)
            (has_default(port.name) ? optional : required).push_back(port.name);
        for (const OnnxInfo::Port& port : info.outputs) outputs.push_back(port.name);
    }
};

Network::Network(std::unique_ptr<State> state) : state_(std::move(state)) {}
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;
Network::~Network() = default;

Network Network::load(const std::filesystem::path& path, const NetworkOptions& options) {
    auto state = std::make_unique<State>();
    state->options = options;
    state->path = path;
    state->has_source = true;
    state->start();
    return Network(std::move(state));
}

Network Network::load(std::vector<std::byte> bytes, const NetworkOptions& options) {
    auto state = std::make_unique<State>();
    state->options = options;
    state->bytes = std::move(bytes);
    state->has_source = true;
    state->start();
    return Network(std::move(state));
}

Network::Network(Graph graph, const NetworkOptions& options) : state_(std::make_unique<State>()) {
    state_->options = options;
    for (const NamedValue& input : graph.inputs()) state_->required.push_back(input.name);
    for (const NamedValue& output : graph.outputs()) state_->outputs.push_back(output.name);
    state_->variants.push_front({{}, std::make_shared<NetworkVariant>(std::move(graph), options)});
}

const Graph& Network::graph() const {
    if (!state_->deciding.empty())
        throw NeedsValues("the structure of this network depends on the content of inputs",
                          state_->deciding);
    return state_->variant({})->graph();
}

void Network::prepare(const Bindings& dims) {
    graph();  // says so if there is no single graph
    state_->variant({})->prepare(dims);
}

std::vector<Tensor> Network::run(const std::vector<Tensor>& inputs) {
    if (inputs.size() != state_->required.size())
        throw GraphError(std::to_string(inputs.size()) + " inputs given, " +
                         std::to_string(state_->required.size()) + " expected");
    std::map<std::string, Tensor> named;
    for (std::size_t i = 0; i < inputs.size(); i++) named.emplace(state_->required[i], inputs[i]);
    return run(named);
}

std::vector<Tensor> Network::run(const std::map<std::string, Tensor>& inputs) {
    VariantKey key;
    for (const std::string& name : state_->optional)
        if (inputs.count(name)) key.given_defaults.push_back(name);
    std::sort(key.given_defaults.begin(), key.given_defaults.end());
    for (const std::string& name : state_->required)
        if (!inputs.count(name)) throw GraphError("input '" + printable(name) + "' is missing");
    for (const auto& [name, tensor] : inputs)
        if (!std::ranges::count(state_->required, name) &&
            !std::ranges::count(state_->optional, name))
            throw GraphError("the network has no input '" + printable(name) + "'");
    for (const std::string& name : state_->deciding) {
        const auto found = inputs.find(name);
        if (found == inputs.end()) throw GraphError("input '" + printable(name) + "' is missing");
        key.values.insert(*found);
    }
    // Fixing some inputs may show that others decide too; each round adds at least one.
    for (std::size_t round = 0;; round++) {
        try {
            const auto variant = state_->variant(key);
            std::vector<Tensor> ordered;
            for (const NamedValue& input : variant->graph().inputs())
                ordered.push_back(inputs.at(input.name));
            return variant->run(ordered);
        } catch (const NeedsValues& error) {
            const std::size_t before = key.values.size();
            for (const std::string& name : error.inputs_to_fix())
                if (const auto found = inputs.find(name); found != inputs.end())
                    key.values.insert(*found);
            if (key.values.size() == before || round > inputs.size()) throw;
        }
    }
}

const std::vector<std::string>& Network::input_names() const { return state_->required; }
const std::vector<std::string>& Network::optional_input_names() const { return state_->optional; }
const std::vector<std::string>& Network::output_names() const { return state_->outputs; }
const OnnxInfo& Network::info() const { return state_->info; }
const NetworkOptions& Network::options() const { return state_->options; }

SetupTimes Network::setup_times() const {
    const std::lock_guard lock(state_->mutex);
    SetupTimes sum{state_->load_ms, 0, 0};
    for (const Variant& variant : state_->variants) {
        const SetupTimes times = variant.network->setup_times();
        sum.optimize_ms += times.optimize_ms;
        sum.plan_ms += times.plan_ms;
    }
    return sum;
}

std::size_t Network::peak_bytes() const {
    const std::lock_guard lock(state_->mutex);
    std::size_t peak = 0;
    for (const Variant& variant : state_->variants)
        peak = std::max(peak, variant.network->peak_bytes());
    return peak;
}

}  // namespace kn
