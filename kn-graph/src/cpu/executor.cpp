#include <fmt/core.h>

#include "cpu/frame.h"

namespace kn::cpu {

namespace {

/// A copy only where bytes of a bool are neither 0 nor 1, which C++ could not read.
Tensor clean_bools(const Tensor& x) {
    if (x.dtype() != DType::Bool) return x;
    bool clean = true;
    for (std::byte b : x.bytes()) clean = clean && (b <= std::byte{1});
    if (clean) return x;
    Tensor copy(DType::Bool, x.shape());
    for (std::size_t i = 0; i < x.byte_size(); ++i)
        copy.mutable_bytes()[i] = x.bytes()[i] == std::byte{0} ? std::byte{0} : std::byte{1};
    return copy;
}

Frame begin(Engine& engine, const Program& program, const std::vector<Tensor>& inputs) {
    const Graph& graph = *program.graph;
    std::vector<Ints> shapes;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        shapes.push_back(inputs[i].shape());
        if (i >= graph.inputs().size()) continue;  // infer_bindings reports the count
        const auto& [name, value] = graph.inputs()[i];
        if (graph.dtype(value) != inputs[i].dtype())
            throw GraphError(fmt::format("input '{}' has dtype {}, expected {}", printable(name),
                                         name_of(inputs[i].dtype()), name_of(graph.dtype(value))));
    }
    Frame frame{.engine = engine,
                .program = program,
                .bindings = graph.infer_bindings(shapes),
                .values = std::vector<Arrays>(graph.size())};
    for (std::size_t i = 0; i < inputs.size(); ++i)
        frame.values[graph.inputs()[i].value.index] = {Array(clean_bools(inputs[i]))};
    return frame;
}

Tensor to_tensor(const Array& x, Frame& frame) {
    return (x.is_contiguous() ? x : copy(x, EvalContext(frame, {}))).to_tensor();
}

std::vector<Tensor> outputs_of(Frame& frame) {
    std::vector<Tensor> outputs;
    for (const NamedValue& output : frame.program.graph->outputs())
        outputs.push_back(to_tensor(frame.values[output.value.index][0], frame));
    return outputs;
}

}  // namespace

struct Executor::State {
    explicit State(const RunOptions& options) : engine(options) {}
    ~State() { engine.memory->close(); }

    mutable Engine engine;
    std::shared_ptr<const Graph> graph;
    std::shared_ptr<const Program> program;
};

Executor::Executor(Graph graph, const RunOptions& options)
    : Executor(std::make_shared<const Graph>(std::move(graph)), options) {}

Executor::Executor(std::shared_ptr<const Graph> graph, const RunOptions& options)
    : state_(std::make_unique<State>(options)) {
    state_->graph = std::move(graph);
    state_->program = state_->engine.program(state_->graph);
}

Executor::Executor(Executor&&) noexcept = default;
Executor& Executor::operator=(Executor&&) noexcept = default;
Executor::~Executor() = default;

const Graph& Executor::graph() const { return *state_->graph; }

std::vector<Tensor> Executor::run(const std::vector<Tensor>& inputs) const {
    Frame frame = begin(state_->engine, *state_->program, inputs);
    evaluate(frame);
    return outputs_of(frame);
}

std::vector<std::vector<Tensor>> Executor::run_all(const std::vector<Tensor>& inputs) const {
    Frame frame = begin(state_->engine, *state_->program, inputs);
    frame.keep_all = true;
    evaluate(frame);
    std::vector<std::vector<Tensor>> all(frame.values.size());
    for (std::size_t i = 0; i < all.size(); ++i)
        for (const Array& x : frame.values[i]) all[i].push_back(to_tensor(x, frame));
    return all;
}

std::size_t Executor::peak_bytes() const { return state_->engine.memory->peak_bytes(); }

std::vector<Tensor> run(const Graph& graph, const std::vector<Tensor>& inputs,
                        const RunOptions& options) {
    const std::shared_ptr<const Graph> borrowed(std::shared_ptr<const void>(), &graph);
    return Executor(borrowed, options).run(inputs);
}

}  // namespace kn::cpu
