// Cases for CPU operations: operands with all kinds of strides, and comparison with a formula for
// one element in double.
#pragma once

#include <cmath>
#include <functional>
#include <random>

#include <gtest/gtest.h>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>

namespace kn::test {

inline std::int64_t flat(const Ints& shape, const Ints& index) {
    std::int64_t i = 0;
    for (std::size_t a = 0; a < shape.size(); ++a) i = i * shape[a] + index[a];
    return i;
}
inline double at(const Tensor& x, const Ints& index) { return x.at(flat(x.shape(), index)); }

/// Calls f(index) for each index of the shape, in row-major order.
inline void each_index(const Ints& shape, const std::function<void(const Ints&)>& f) {
    const std::int64_t size = checked_size(shape);
    Ints index(shape.size(), 0);
    for (std::int64_t i = 0; i < size; ++i) {
        f(index);
        for (std::size_t a = shape.size(); a-- > 0 && ++index[a] == shape[a];) index[a] = 0;
    }
}

/// A tensor whose element at `index` is f(index), rounded to the dtype.
inline Tensor make(DType dtype, const Ints& shape, const std::function<double(const Ints&)>& f) {
    Tensor x(DType::F64, shape);
    std::size_t i = 0;
    auto data = x.mutable_data<double>();
    each_index(shape, [&](const Ints& index) { data[i++] = f(index); });
    return x.cast(dtype);
}

/// Uniform floats in [low, high), or whole numbers in that range.
inline Tensor random(DType dtype, const Ints& shape, unsigned seed, double low = -1,
                     double high = 1) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> draw(low, high);
    return make(dtype, shape, [&](const Ints&) {
        return is_float(dtype) ? draw(engine) : std::floor(draw(engine));
    });
}

/// How an operand reaches the operation.
enum class Strides { Plain, Transposed, Flipped, Sliced };
inline constexpr Strides all_strides[] = {Strides::Plain, Strides::Transposed, Strides::Flipped,
                                          Strides::Sliced};

/// A graph under construction with its inputs' values.
struct Case {
    Graph graph;
    std::vector<Tensor> inputs;

    Var input(const Tensor& x) {
        inputs.push_back(x);
        return graph.input("input" + std::to_string(inputs.size()), x.dtype(),
                           Shape::of(x.shape()));
    }
    /// A value equal to x that the operation sees with such strides.
    Var operand(const Tensor& x, Strides strides) {
        const auto rank = static_cast<std::int64_t>(x.rank());
        const std::size_t last = x.rank() - 1;
        if (strides == Strides::Plain || rank == 0) return input(x);
        Ints shape = x.shape();
        if (strides == Strides::Transposed) {
            std::reverse(shape.begin(), shape.end());
            Ints perm;
            for (std::int64_t a = rank; a-- > 0;) perm.push_back(a);
            return permute(input(make(x.dtype(), shape,
                                      [&](Ints i) {
                                          std::reverse(i.begin(), i.end());
                                          return at(x, i);
                                      })),
                           perm);
        }
        if (strides == Strides::Flipped)
            return flip(input(make(x.dtype(), shape,
                                   [&](Ints i) {
                                       i[last] = shape[last] - 1 - i[last];
                                       return at(x, i);
                                   })),
                        rank - 1);
        shape[last] += 3;  // elements before and after the slice are never to be read
        return slice(input(make(x.dtype(), shape,
                                [&](Ints i) {
                                    i[last] -= 2;
                                    return i[last] < 0 || i[last] >= x.shape()[last] ? 99.0
                                                                                     : at(x, i);
                                })),
                     rank - 1, 2, x.shape()[last] + 2);
    }
    Tensor run(Var y, int threads = 2) {
        graph.output("y", y);
        return cpu::run(graph, inputs, {.threads = threads})[0];
    }
};

/// Each element must be within `tolerance` times the peak of f(index), the largest finite magnitude
/// or 1; NaN equals NaN.
inline void expect_each(const Tensor& got, const Ints& shape, double tolerance,
                        const std::function<double(const Ints&)>& f) {
    ASSERT_EQ(got.shape(), shape);
    std::vector<double> expected;
    double peak = 1;
    each_index(shape, [&](const Ints& index) {
        expected.push_back(f(index));
        if (std::isfinite(expected.back())) peak = std::max(peak, std::fabs(expected.back()));
    });
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double value = got.at(static_cast<std::int64_t>(i));
        if (std::isnan(expected[i]) ? std::isnan(value) : value == expected[i]) continue;
        ASSERT_LE(std::fabs(value - expected[i]), tolerance * peak)
            << "element " << i << " of " << got.type_string() << " is " << value << ", expected "
            << expected[i];
    }
}

/// The rounding error that an operation of some hundred additions may have.
inline double tolerance(DType dtype) {
    switch (dtype) {
        case DType::F16: return 2e-3;
        case DType::BF16: return 1.6e-2;
        case DType::F32: return 4e-6;
        case DType::F64: return 1e-13;
        default: return 0;
    }
}

inline constexpr DType all_floats[] = {DType::F32, DType::F64, DType::F16, DType::BF16};

}  // namespace kn::test
