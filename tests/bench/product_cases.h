// The cases that bench_products times: read from text, as graphs, and what they should give.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <kn/graph/builder.h>

#include "lower/few_channels.h"
#include "lower/product_tiles.h"

namespace kn::bench {

struct Case {
    std::string text;
    bool conv = false, gated = false, residual = false, pooled = false;
    bool pair = false, also = false, biased = false;
    std::optional<NormKind> norm = {};
    std::int64_t from = 0;  ///< not 0: x is a product of so many columns itself, with a residual
    Ints n;                 // as in the text

    bool few_channels() const { return conv && n[1] <= 8; }
};

/// What products.cpp says of its arguments; throws std::exception for others.
Case parse(const std::string& text);

struct Problem {
    Graph graph;
    std::vector<Tensor> inputs;
    Tensor weight, bias, next_weight, also_weight, scale, shift, before_weight;
    Ints y;
};

Problem build(const Case& c, DType dtype);

DType dtype_of(Precision precision);
/// As the planner would see the product of the case.
cuda::TensorProduct problem_of(const Case& c, Precision precision);
cuda::FewChannels few_channels_of(const Case& c, Precision precision);

/// Images have their channels innermost, as networks have them between layers.
Ints stored_order(const Ints& i);
double element(const Tensor& tensor, const Ints& at);

/// Some elements of y, in double.
struct Samples {
    std::vector<Ints> places;
    std::vector<double> values;
};

Samples sample(const Case& c, const Problem& problem);

}  // namespace kn::bench
