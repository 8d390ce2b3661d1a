// The activation functions of recurrent cells, as ONNX defines them for RNN, GRU and LSTM.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <kn/graph/ops.h>

namespace kn::cpu {

struct CellFunction {
    CellActivation kind;
    double alpha;
    double beta;
};

/// data[i] = f(data[i])
template <class C>
void apply(const CellFunction& f, C* data, std::int64_t count) {
    const C alpha = static_cast<C>(f.alpha);
    const C beta = static_cast<C>(f.beta);
    const auto each = [&](auto&& function) {
        for (std::int64_t i = 0; i < count; ++i) data[i] = function(data[i]);
    };
    switch (f.kind) {
        case CellActivation::Sigmoid: return each([](C x) { return 1 / (1 + std::exp(-x)); });
        case CellActivation::Tanh: return each([](C x) { return std::tanh(x); });
        case CellActivation::Relu: return each([](C x) { return x < 0 ? C(0) : x; });
        case CellActivation::Affine: return each([=](C x) { return alpha * x + beta; });
        case CellActivation::LeakyRelu: return each([=](C x) { return x < 0 ? alpha * x : x; });
        case CellActivation::ThresholdedRelu:
            return each([=](C x) { return x < alpha ? C(0) : x; });
        case CellActivation::ScaledTanh:
            return each([=](C x) { return alpha * std::tanh(beta * x); });
        case CellActivation::HardSigmoid:
            return each([=](C x) { return std::min(std::max(alpha * x + beta, C(0)), C(1)); });
        case CellActivation::Elu:
            return each([=](C x) { return x < 0 ? alpha * std::expm1(x) : x; });
        case CellActivation::Softsign: return each([](C x) { return x / (1 + std::abs(x)); });
        case CellActivation::Softplus:
            return each([](C x) { return std::max(x, C(0)) + std::log1p(std::exp(-std::abs(x))); });
    }
}

}  // namespace kn::cpu
