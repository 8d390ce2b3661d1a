// What the tests of single CPU operations share: seeded data, a run of one operation, comparison
// with a reference in double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>

namespace kn::reference {

/// Uniform in [low, high).
inline Tensor uniform(Ints shape, unsigned seed, double low = -1, double high = 1,
                      DType dtype = DType::F32) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> values(low, high);
    Tensor t(DType::F64, std::move(shape));
    for (double& v : t.mutable_data<double>()) v = values(random);
    return t.cast(dtype);
}

inline Tensor ints(Ints shape, const std::vector<std::int64_t>& values) {
    return Tensor::from_span<std::int64_t>(std::move(shape), values);
}

inline Tensor floats(Ints shape, const std::vector<float>& values) {
    return Tensor::from_span<float>(std::move(shape), values);
}

inline std::vector<double> doubles(const Tensor& t) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < t.size(); ++i) out.push_back(t.at(i));
    return out;
}

/// All results of the operation that `make` gives for inputs of these types.
inline std::vector<Tensor> run_op(const std::vector<Tensor>& inputs,
                                  const std::function<Operation(const std::vector<Value>&)>& make) {
    Graph g;
    std::vector<Value> values;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        values.push_back(
            g.input("in" + std::to_string(i), inputs[i].dtype(), Shape::of(inputs[i].shape())));
    const Value made = g.add(make(values));
    for (std::size_t i = 0; i < g[made].results.size(); ++i)
        g.output("out" + std::to_string(i), g.result(made, i));
    return cpu::run(g, inputs, {.threads = 2});
}

inline std::string message_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const GraphError& error) {
        return error.what();
    }
    return "";
}

/// |a - b| <= tolerance * (1 + |b|) for all elements; names the worst one.
inline void expect_close(const Tensor& actual, const std::vector<double>& expected,
                         double tolerance) {
    ASSERT_EQ(actual.size(), static_cast<std::int64_t>(expected.size())) << actual.type_string();
    double worst = 0;
    std::int64_t where = 0;
    for (std::int64_t i = 0; i < actual.size(); ++i) {
        const double b = expected[static_cast<std::size_t>(i)];
        if (std::isnan(b) && std::isnan(actual.at(i))) continue;
        double error = std::abs(actual.at(i) - b) / (1 + std::abs(b));
        if (actual.at(i) == b) error = 0;
        if (std::isnan(error)) error = INFINITY;
        if (error > worst) worst = error, where = i;
    }
    EXPECT_LE(worst, tolerance) << actual.type_string() << " element " << where << ": "
                                << actual.at(where) << " for "
                                << expected[static_cast<std::size_t>(where)];
}

}  // namespace kn::reference
