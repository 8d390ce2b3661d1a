// Before/after checks of optimizer rules: the rule fires, the result has the expected operations,
// and random data give the same numbers.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include <kn/graph.h>

namespace kn::testing_rules {

using Build = std::function<void(Graph&)>;
using Names = std::vector<std::string>;

const Dim batch = Dim::symbol("batch");
const Dim seq = Dim::symbol("seq");

inline Var input(Graph& g, Shape shape, const char* name = "x", DType dtype = DType::F32) {
    return g.input(name, dtype, std::move(shape));
}

/// Names of the live operations, sorted, without inputs and constants.
inline Names operations(const Graph& graph) {
    Names names;
    for (const Value& value : graph.live()) {
        const std::string name(name_of(graph[value].operation));
        if (name != "Input" && name != "Constant") names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

/// N(0, 1) floats, integers in 0..3, both from a fixed seed; symbols are 2, 3, 4, ... in
/// alphabetical order.
inline std::vector<Tensor> random_inputs(const Graph& graph, unsigned seed) {
    Bindings bindings;
    std::int64_t next = 2;
    for (const std::string& symbol : graph.input_symbols()) bindings[symbol] = next++;
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<Tensor> inputs;
    for (const NamedValue& input : graph.inputs()) {
        const Type& type = graph.type(input.value);
        Tensor values = Tensor::zeros(DType::F64, type.shape.eval(bindings));
        for (double& x : values.mutable_data<double>())
            x = is_float(type.dtype)
                    ? normal(random)
                    : static_cast<double>(random() % (type.dtype == DType::Bool ? 2 : 4));
        inputs.push_back(values.cast(type.dtype));
    }
    return inputs;
}

inline void expect_same_numbers(const Graph& before, const Graph& after, double tolerance,
                                const std::string& what) {
    constexpr unsigned seed = 7;
    const std::vector<Tensor> inputs = random_inputs(before, seed);
    const std::vector<Tensor> expected = cpu::run(before, inputs, {.threads = 1});
    const std::vector<Tensor> got = cpu::run(after, inputs, {.threads = 1});
    ASSERT_EQ(expected.size(), got.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(expected[i].type_string(), got[i].type_string()) << what;
        double peak = 0;
        for (std::int64_t j = 0; j < got[i].size(); ++j)
            if (std::isfinite(expected[i].at(j)))
                peak = std::max(peak, std::abs(expected[i].at(j)));
        for (std::int64_t j = 0; j < got[i].size(); ++j) {
            const double a = expected[i].at(j);
            const double b = got[i].at(j);
            if ((std::isnan(a) && std::isnan(b)) || a == b) continue;
            ASSERT_LE(std::abs(a - b), tolerance * peak)
                << what << ": output " << i << " element " << j << ", seed " << seed << ": " << a
                << " became " << b << "\nbefore:\n"
                << before.to_string() << "after:\n"
                << after.to_string();
        }
    }
}

/// Optimises what `build` makes; `rule` must fire (and not where it is disabled), and leave these
/// operations.
inline Graph expect_rule(const std::string& rule, const Build& build, Names after,
                         double tolerance = 2e-6) {
    Graph before;
    build(before);
    std::set<std::string> fired;
    OptimizeOptions options;
    options.trace = [&](std::string_view name, const std::string&) { fired.emplace(name); };
    Graph result = optimize(before, options);
    std::sort(after.begin(), after.end());
    EXPECT_TRUE(fired.count(rule))
        << rule << " did not fire; this did: " << ::testing::PrintToString(fired) << "\n"
        << result.to_string();
    EXPECT_EQ(operations(result), after) << "before:\n"
                                         << before.to_string() << "after:\n"
                                         << result.to_string();
    expect_same_numbers(before, result, tolerance, rule);
    fired.clear();
    options.disabled = {rule};
    const Graph without = optimize(before, options);
    EXPECT_FALSE(fired.count(rule)) << rule << " fired although it is disabled";
    expect_same_numbers(before, without, tolerance, "without " + rule);
    result.verify();
    return result;
}

/// Nothing in `build` is something for this rule.
inline void expect_no_rule(const std::string& rule, const Build& build) {
    Graph before;
    build(before);
    OptimizeOptions options;
    options.trace = [&](std::string_view name, const std::string& what) {
        EXPECT_NE(name, rule) << what;
    };
    expect_same_numbers(before, optimize(before, options), 2e-6, rule);
}

/// A named weight with N(0, 1) values from a fixed seed.
inline Var weight(Graph& graph, Ints shape, const std::string& name, unsigned seed = 1,
                  DType dtype = DType::F32) {
    Tensor values = Tensor::zeros(DType::F64, std::move(shape));
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (double& x : values.mutable_data<double>()) x = normal(random);
    return graph.constant(values.cast(dtype), name);
}

}  // namespace kn::testing_rules
