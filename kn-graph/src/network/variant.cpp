#include "network/variant.h"

#include <algorithm>

#include <kn/graph/optimizer.h>
#include <kn/graph/precision.h>

namespace kn {

namespace {

Graph lower(Graph graph, const NetworkOptions& options) {
    const bool on_cpu =
        options.device.kind() == Device::Kind::Cpu;  // elsewhere precision is the planner's
    // Double first: what the optimizer folds is then folded in double. Halves last: they rely on
    // the patterns it recognises.
    if (on_cpu && options.precision == Precision::F64) graph = to_precision(graph, DType::F64);
    if (options.optimize) graph = optimize(graph);
    if (!on_cpu) return graph;
    switch (options.precision) {
        case Precision::F32:
        case Precision::F64: return graph;
        case Precision::F16: return to_precision(graph, DType::F16);
        case Precision::BF16: return to_precision(graph, DType::BF16);
        case Precision::TF32: return to_tf32(graph);
    }
    return graph;
}

}  // namespace

NetworkVariant::NetworkVariant(Graph graph, const NetworkOptions& options)
    : options_(options), backend_(backend_for(options.device)) {
    const StopWatch watch(times_.optimize_ms);
    graph_ = std::make_shared<const Graph>(lower(std::move(graph), options));
}

void NetworkVariant::check_types(const std::vector<Tensor>& inputs) const {
    for (std::size_t i = 0; i < inputs.size(); i++) {
        const NamedValue& input = graph_->inputs()[i];
        if (inputs[i].dtype() != graph_->dtype(input.value))
            throw GraphError("input '" + printable(input.name) + "' is " + inputs[i].type_string() +
                             ", expected " + std::string(name_of(graph_->dtype(input.value))) +
                             graph_->shape(input.value).to_string());
    }
}

// With numbers in place of symbols there is more to fold: positions, masks.
Graph NetworkVariant::at_sizes(const Bindings& dims) const {
    Graph bound = graph_->bind(dims);
    return options_.optimize ? optimize(bound) : std::move(bound);
}

std::shared_ptr<Executable> NetworkVariant::plan_for(const Bindings& dims) {
    const Bindings key = backend_->takes_symbols() ? Bindings() : dims;
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(plans_.begin(), plans_.end(),
                                    [&](const Plan& plan) { return plan.dims == key; });
    if (found != plans_.end()) {
        plans_.splice(plans_.begin(), plans_, found);
        return found->executable;
    }
    const StopWatch watch(times_.plan_ms);
    const auto graph = key.empty() ? graph_ : std::make_shared<const Graph>(at_sizes(key));
    const BackendOptions options{options_.device, options_.precision, options_.threads,
                                 options_.tuning};
    plans_.push_front({key, backend_->prepare(graph, options)});
    const auto executable = plans_.front().executable;
    while (plans_.size() > std::max<std::size_t>(options_.max_plans, 1)) {
        peak_bytes_ = std::max(peak_bytes_, plans_.back().executable->peak_bytes());
        plans_.pop_back();
    }
    return executable;
}

void NetworkVariant::prepare(const Bindings& dims) {
    const Graph bound = graph_->bind(dims);  // names unknown dims and broken constraints
    for (const std::string& symbol : bound.input_symbols())
        throw GraphError("prepare: the dim '" + printable(symbol) + "' has no value");
    plan_for(dims);
}

std::vector<Tensor> NetworkVariant::run(const std::vector<Tensor>& inputs) {
    std::vector<Ints> shapes;
    for (const Tensor& input : inputs) shapes.push_back(input.shape());
    const Bindings dims = graph_->infer_bindings(shapes);
    check_types(inputs);
    return plan_for(dims)->run(inputs);
}

SetupTimes NetworkVariant::setup_times() const {
    const std::lock_guard lock(mutex_);
    return times_;
}

std::size_t NetworkVariant::peak_bytes() const {
    const std::lock_guard lock(mutex_);
    std::size_t peak = peak_bytes_;
    for (const Plan& plan : plans_) peak = std::max(peak, plan.executable->peak_bytes());
    return peak;
}

}  // namespace kn
