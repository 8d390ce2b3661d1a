// Small products behind each other, a few rows a block: the weights come from the cache, what lies
// between stays in shared memory.
//
// A thread multiplies a vector of a weight's columns by the places of a row that it has; such sums
// of all threads meet in shared memory, are added up in one order, and go on.
#include "lower/product_chain.h"

#include <algorithm>

#include <fmt/core.h>

#include "codegen/emit.h"
#include "codegen/kernel_text.h"
#include "lower/lower.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kThreads = 512;
constexpr std::int64_t kMostShared = 48 << 10;
constexpr std::int64_t kMostAhead = 8;  // vectors of a weight that a thread holds at once

/// Threads on a product: each has one vector of columns, and every `slices`-th place of a row.
struct Layer {
    std::int64_t k = 0, columns = 0, vectors = 0, slices = 0;
    std::int64_t steps() const { return ceil_div(k, slices); }
};

Layer layer_of(const Graph& graph, Value product, int lanes) {
    const Ints w = graph.shape(std::get<op::MatMul>(graph[product].operation).b).to_ints();
    Layer layer;
    layer.k = w[0];
    layer.columns = w[1];
    layer.vectors = w[1] / lanes;
    layer.slices = std::min(std::max<std::int64_t>(kThreads / layer.vectors, 1), w[0]);
    return layer;
}

std::int64_t shared_numbers(const Graph& graph, const std::vector<Value>& products,
                            std::int64_t rows) {
    std::int64_t inputs = 0, sums = 0;
    for (const Value& product : products) {
        const Layer layer = layer_of(graph, product, chain_lanes(graph, product));
        inputs += rows * layer.k;
        sums = std::max(sums, layer.slices * rows * layer.columns);
    }
    return inputs + sums;
}

class ChainKernel {
  public:
    ChainKernel(Placement& placement, const Group& group, std::vector<Value> products)
        : placement_(placement),
          group_(group),
          products_(std::move(products)),
          emitter_(placement, code_, draft_.operands) {}

    KernelDraft make() {
        const Ints y = graph().shape(group_.outputs[0]).to_ints();
        rows_ = chain_rows(graph(), products_, placement_.plan().device.sm_count);
        lanes_ = chain_lanes(graph(), products_[0]);
        emitter_.computes(group_.outputs);
        code_.line(fmt::format("const {} block = blockIdx.x;", math().type()));
        code_.line("const int thread = threadIdx.x;");
        block_ = math().variable("block", y[0] / rows_);
        std::int64_t sums = 0;
        for (std::size_t i = 0; i < products_.size(); ++i) {
            const Layer layer = layer_of(graph(), products_[i], lanes_);
            sums = std::max(sums, layer.slices * rows_ * layer.columns);
            code_.line(fmt::format("KN_SHARED float x{}[{}];", i, rows_ * layer.k));
            code_.line(fmt::format("const int c{} = thread % {};", i, layer.vectors));
            code_.line(fmt::format("const int s{} = thread / {};", i, layer.vectors));
        }
        code_.line(fmt::format("KN_SHARED float sums[{}];", sums));
        // Weights are on their way before the first row is known.
        const std::size_t scope = emitter_.scope();
        code_.open("");
        emitter_.push_scope();
        const Value first = operand(0);
        each(rows_ * layer_of(graph(), products_[0], lanes_).k, [&](const std::string& number) {
            const Index index = row_index(number, graph().shape(first).to_ints()[1]);
            code_.line(fmt::format("x0[t] = {};", emitter_.value(first, index)));
        });
        for (std::size_t i = 0; i < products_.size(); ++i) multiply(i, scope);
        emitter_.pop_scope();
        code_.close();
        draft_.name = "products";
        draft_.body = code_.text();
        draft_.helpers = std::string(kernel_text("row_parts"));
        draft_.grid = {static_cast<unsigned>(y[0] / rows_)};
        draft_.block = {static_cast<unsigned>(kThreads)};
        return std::move(draft_);
    }

  private:
    const Graph& graph() const { return placement_.graph(); }
    IndexMath& math() { return emitter_.math(); }
    Value operand(std::size_t i) const {
        return std::get<op::MatMul>(graph()[products_[i]].operation).a;
    }

    /// `body` for t < count, shared by the threads.
    template <class Body>
    void each(std::int64_t count, const Body& body) {
        code_.open(fmt::format("for (int t = thread; t < {}; t += {})", count, kThreads));
        emitter_.push_scope();
        body(math().variable("t", count));
        emitter_.pop_scope();
        code_.close();
        code_.line("kn_sync();");
    }

    Index row_index(const std::string& number, std::int64_t columns) {
        const Index digits = math().split(number, {rows_, columns});
        return {math().add(math().mul(block_, rows_), digits[0]), digits[1]};
    }

    void multiply(std::size_t i, std::size_t scope) {
        const Layer layer = layer_of(graph(), products_[i], lanes_);
        const Value weight = std::get<op::MatMul>(graph()[products_[i]].operation).b;
        const std::string column = math().variable(fmt::format("c{}", i), layer.vectors);
        const bool all_threads = layer.vectors * layer.slices == kThreads;
        const bool exact = layer.k % layer.slices == 0;
        emitter_.set_lanes(lanes_);
        code_.open(all_threads ? "" : fmt::format("if (s{} < {})", i, layer.slices));
        emitter_.push_scope();
        for (std::int64_t r = 0; r < rows_; ++r)
            code_.line(fmt::format("float sum{}[{}] = {{}};", r, lanes_));
        code_.open(fmt::format("{} for (int n = 0; n < {}; ++n)",
                               layer.steps() <= 16 ? "KN_UNROLL" : "KN_UNROLL_SOME",
                               layer.steps()));
        emitter_.push_scope();
        const std::string k = fmt::format("k{}", i);
        const std::string definition =
            fmt::format("const int {} = n * {} + s{};", k, layer.slices, i);
        code_.line(definition);
        if (!exact) code_.line(fmt::format("if ({} >= {}) break;", k, layer.k));
        math().variable(k, layer.k);
        if (exact && all_threads && layer.steps() <= kMostAhead)
            emitter_.set_ahead(Emitter::Ahead{scope, k, "n", layer.steps(), definition});
        const std::string w =
            emitter_.value(weight, {k, math().add(math().mul(column, lanes_), "j")});
        emitter_.set_ahead(std::nullopt);
        for (std::int64_t r = 0; r < rows_; ++r)
            code_.line(
                fmt::format("KN_UNROLL for (int j = 0; j < {}; ++j) sum{}[j] += x{}[{} + {}] * {};",
                            lanes_, r, i, r * layer.k, k, w));
        emitter_.pop_scope();
        code_.close();
        for (std::int64_t r = 0; r < rows_; ++r)
            code_.line(
                fmt::format("KN_UNROLL for (int j = 0; j < {0}; ++j) sums[(s{1} * {2} + {3}) * {4} "
                            "+ c{1} * {0} "
                            "+ j] = sum{3}[j];",
                            lanes_, i, rows_, r, layer.columns));
        emitter_.pop_scope();
        code_.close();
        emitter_.set_lanes(1);
        code_.line("kn_sync();");
        const bool last = i + 1 == products_.size();
        const Value end = last ? group_.outputs[0] : operand(i + 1);
        each(rows_ * layer.columns, [&](const std::string& number) {
            code_.line("float total = 0;");
            code_.line(
                fmt::format("KN_UNROLL for (int s = 0; s < {}; ++s) total += sums[s * {} + t];",
                            layer.slices, rows_ * layer.columns));
            emitter_.provide(products_[i], [](const Index&) { return std::string("total"); });
            const Index index = row_index(number, layer.columns);
            const std::string value = emitter_.value(end, index);
            if (last)
                emitter_.store(end, index, value);
            else
                code_.line(fmt::format("x{}[t] = {};", i + 1, value));
        });
    }

    Placement& placement_;
    const Group& group_;
    std::vector<Value> products_;
    KernelDraft draft_;
    Code code_;
    Emitter emitter_;
    std::int64_t rows_ = 1;
    int lanes_ = 1;
    std::string block_;
};

}  // namespace

int chain_lanes(const Graph& graph, Value product) {
    return static_cast<int>(16 / size_of(graph.dtype(product)));
}

std::int64_t chain_rows(const Graph& graph, const std::vector<Value>& products,
                        std::int64_t sm_count) {
    const std::int64_t rows = graph.shape(products[0]).to_ints()[0];
    const bool two = rows % 2 == 0 && rows >= sm_count + sm_count / 2 &&
                     shared_numbers(graph, products, 2) * 4 <= kMostShared;
    return two ? 2 : 1;
}

std::optional<std::string> why_no_chain(const Graph& graph, const std::vector<Value>& products,
                                        std::int64_t sm_count) {
    // Takes a cache as long as two more steps do; of 4 MB that one block reads, 99 us.
    constexpr std::int64_t most_read = 24 << 20, most_of_a_block = 384 << 10;
    std::int64_t weights = 0;
    const DType dtype = graph.dtype(products[0]);
    if (dtype != DType::F32 && !is_half(dtype)) return "it is for float32 and half types";
    for (const Value& product : products) {
        if (graph.dtype(product) != dtype) return "their types differ";
        const int lanes = chain_lanes(graph, product);
        const Ints w = graph.shape(std::get<op::MatMul>(graph[product].operation).b).to_ints();
        if (w[0] == 0) return "there is nothing to add up";
        if (w[1] == 0 || w[1] % lanes != 0 || w[1] / lanes > kThreads)
            return fmt::format("{} columns do not suit a block", w[1]);
        const Layer layer = layer_of(graph, product, lanes);
        weights += layer.k * layer.columns * static_cast<std::int64_t>(size_of(dtype));
    }
    if (shared_numbers(graph, products, 1) * 4 > kMostShared)
        return "the sums do not fit in shared memory";
    const std::int64_t rows = graph.shape(products[0]).to_ints()[0];
    const std::int64_t blocks = rows / chain_rows(graph, products, sm_count);
    if (blocks * weights > most_read || weights > most_of_a_block)
        return fmt::format("{} blocks would read {} bytes of weights each", blocks, weights);
    return std::nullopt;
}

void lower_product_chain(Placement& placement, const Group& group) {
    std::vector<Value> products;
    for (const auto& [role, value] : group.roles)
        if (role.starts_with("product")) products.push_back(value);
    add_kernel_step(placement, group, ChainKernel(placement, group, std::move(products)).make());
}

}  // namespace kn::cuda
