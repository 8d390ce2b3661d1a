#include "product_cases.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include <kn/graph/random.h>

namespace kn::bench {

Ints stored_order(const Ints& i) { return i.size() == 4 ? Ints{i[0], i[2], i[3], i[1]} : i; }

double element(const Tensor& tensor, const Ints& at) {
    std::int64_t i = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) i = i * tensor.shape()[axis] + at[axis];
    return tensor.at(i);
}

Case parse(const std::string& text) {
    Case result;
    result.text = text;
    std::istringstream stream(text);
    std::string kind, word;
    stream >> kind;
    result.pooled = kind == "pooled";
    result.pair = kind == "pair";
    result.conv = kind == "conv" || result.pooled || result.pair;
    result.gated = kind == "gated";
    while (stream >> word) {
        if (word == "+")
            result.residual = true;
        else if (word == "~")
            result.biased = true;
        else if (word == "&")
            result.also = true;
        else if (word == "from")
            stream >> result.from;
        else if (word == "layer" || word == "rms")
            result.norm = word == "rms" ? NormKind::MeanSquare : NormKind::MeanVariance;
        else
            result.n.push_back(std::stoll(word));
    }
    const bool matmul = kind == "matmul" || result.gated;
    const std::size_t numbers = matmul ? 3 : result.pair ? 6 : result.conv ? 7 : 0;
    if (result.n.size() != numbers || numbers == 0) throw std::runtime_error("no case: " + text);
    if (result.pair) result.n.insert(result.n.begin() + 5, {1, 1});
    return result;
}

namespace {

Var input(Problem& problem, const char* name, DType dtype, const Ints& shape, Random& random) {
    const Ints stored = stored_order(shape);
    problem.inputs.push_back(random_tensor(dtype, stored, random));
    const Var x = problem.graph.input(name, dtype, Shape::of(stored));
    return shape.size() == 4 ? permute(x, {0, 3, 1, 2}) : x;
}

// Images of few channels are float32 and channels first, as callers have them.
Var image(Problem& problem, DType dtype, const Ints& shape, Random& random) {
    problem.inputs.push_back(random_tensor(dtype, shape, random).cast(DType::F32));
    return cast(problem.graph.input("x", DType::F32, Shape::of(shape)), dtype);
}

}  // namespace

Problem build(const Case& c, DType dtype) {
    Problem problem;
    Random random(3);
    const Ints x_shape = c.conv ? Ints{c.n[0], c.n[1], c.n[2], c.n[3]} : Ints{c.n[0], c.n[2]};
    const Ints w_shape = c.conv ? Ints{c.n[4], c.n[1], c.n[5], c.n[5]} : Ints{c.n[2], c.n[1]};
    problem.weight = random_tensor(dtype, w_shape, random);
    Var x = c.few_channels() ? image(problem, dtype, x_shape, random)
                             : input(problem, "x", dtype, x_shape, random);
    if (c.from > 0) {
        problem.before_weight = random_tensor(dtype, {c.from, c.n[2]}, random);
        x = x + matmul(input(problem, "before", dtype, {c.n[0], c.from}, random),
                       problem.graph.constant(problem.before_weight));
    }
    if (c.norm) {
        problem.scale = random_tensor(dtype, {c.n[2]}, random);
        problem.shift = random_tensor(dtype, {c.n[2]}, random);
        const Var scale = problem.graph.constant(problem.scale);
        x = c.norm == NormKind::MeanSquare
                ? rms_norm(x, scale)
                : layer_norm(x, scale, problem.graph.constant(problem.shift));
    }
    const Var w = problem.graph.constant(problem.weight);
    const std::int64_t pad = c.conv ? c.n[5] / 2 : 0;
    Var y = c.conv ? conv(x, w, {}, {.strides = {c.n[6], c.n[6]}, .pads = {pad, pad, pad, pad}})
                   : matmul(x, w);
    if (c.pair || c.biased) {
        problem.bias = random_tensor(dtype, {c.n[4], 1, 1}, random);
        y = y + problem.graph.constant(problem.bias);
    }
    if (c.biased) y = relu(y);
    if (c.also) {
        const Var also = input(problem, "also", dtype, x_shape, random);
        problem.also_weight = random_tensor(dtype, w_shape, random);
        y = y + conv(also, problem.graph.constant(problem.also_weight), {}, {});
    }
    if (c.gated) {
        problem.bias = random_tensor(dtype, {c.n[1]}, random);
        y = y + problem.graph.constant(problem.bias);
        y = slice(y, 1, 0, c.n[1] / 2) * gelu(slice(y, 1, c.n[1] / 2, c.n[1]));
    }
    if (c.pooled) y = max_pool(relu(y), {3, 3}, {.strides = {2, 2}, .pads = {1, 1, 1, 1}});
    problem.y = problem.graph.shape(y).to_ints();
    if (c.residual) {
        y = relu(y + input(problem, "r", dtype, problem.y, random));
    }
    if (c.pair) {
        problem.next_weight = random_tensor(dtype, {c.n[7], c.n[4], 1, 1}, random);
        if (!c.residual) y = relu(y);
        const Var z = relu(conv(y, problem.graph.constant(problem.next_weight), {}, {}));
        problem.y = problem.graph.shape(z).to_ints();
        problem.graph.output("z", permute(z, {0, 2, 3, 1}));
    }
    if (!c.pair || c.residual || c.also)
        problem.graph.output("y", c.conv ? permute(y, {0, 2, 3, 1}) : y);
    return problem;
}

namespace {

// A product's row, normalised where that is wanted.
std::vector<double> row_of(const Case& c, const Problem& p, std::int64_t at) {
    std::vector<double> row;
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < c.n[2]; ++k) {
        row.push_back(element(p.inputs[0], {at, k}));
        for (std::int64_t i = 0; i < c.from; ++i)
            row.back() += element(p.inputs[1], {at, i}) * element(p.before_weight, {i, k});
        sum += row.back();
        squares += row.back() * row.back();
    }
    if (!c.norm) return row;
    const auto count = static_cast<double>(row.size());
    const bool centred = c.norm == NormKind::MeanVariance;
    const double mean = centred ? sum / count : 0;
    const double factor = 1 / std::sqrt(squares / count - mean * mean + 1e-5);
    for (std::size_t k = 0; k < row.size(); ++k) {
        const auto i = static_cast<std::int64_t>(k);
        row[k] = (row[k] - mean) * factor * p.scale.at(i) + (centred ? p.shift.at(i) : 0);
    }
    return row;
}

// One element of the result in double, of a pool's one that it is made of, of a pair's first one.
double product_element(const Case& c, const Problem& p, const Ints& at) {
    const auto x = [&](const Ints& i) {
        return element(p.inputs[0], c.few_channels() ? i : stored_order(i));
    };
    const auto w = [&](const Ints& i) { return element(p.weight, i); };
    double sum = 0;
    if (c.conv) {
        const std::int64_t pad = c.n[5] / 2;
        for (std::int64_t channel = 0; c.also && channel < c.n[1]; ++channel)
            sum += element(p.inputs[1], stored_order({at[0], channel, at[2], at[3]})) *
                   element(p.also_weight, {at[1], channel, 0, 0});
        for (std::int64_t channel = 0; channel < c.n[1]; ++channel)
            for (std::int64_t i = 0; i < c.n[5]; ++i)
                for (std::int64_t j = 0; j < c.n[5]; ++j) {
                    const std::int64_t row = at[2] * c.n[6] + i - pad,
                                       column = at[3] * c.n[6] + j - pad;
                    if (row < 0 || column < 0 || row >= c.n[2] || column >= c.n[3]) continue;
                    sum += x({at[0], channel, row, column}) * w({at[1], channel, i, j});
                }
    } else {
        const std::vector<double> row = row_of(c, p, at[0]);
        const auto column = [&](std::int64_t j) {
            double total = c.gated ? p.bias.at(j) : 0;
            for (std::int64_t k = 0; k < c.n[2]; ++k)
                total += row[static_cast<std::size_t>(k)] * w({k, j});
            return total;
        };
        sum = column(at[1]);
        if (c.gated) {
            const double gate = column(at[1] + c.n[1] / 2);
            sum *= gate * 0.5 * (1 + std::erf(gate / std::sqrt(2.0)));
        }
    }
    if (c.pair || c.biased) sum += p.bias.at(at[1]);
    if (c.residual) sum += element(p.inputs.back(), stored_order(at));
    return c.residual || c.pair || c.biased ? std::max(0.0, sum) : sum;
}

double pair_reference(const Case& c, const Problem& p, const Ints& at) {
    double sum = 0;
    for (std::int64_t i = 0; i < c.n[4]; ++i)
        sum += product_element(c, p, {at[0], i, at[2], at[3]}) *
               element(p.next_weight, {at[1], i, 0, 0});
    return std::max(0.0, sum);
}

}  // namespace

DType dtype_of(Precision precision) {
    return precision == Precision::F16    ? DType::F16
           : precision == Precision::BF16 ? DType::BF16
                                          : DType::F32;
}

cuda::TensorProduct problem_of(const Case& c, Precision precision) {
    const DType dtype = dtype_of(precision);
    cuda::TensorProduct product;
    product.exact = precision == Precision::F32;
    product.before = c.residual;
    product.y_bytes = static_cast<int>(size_of(dtype));
    product.type = dtype == DType::F16    ? cuda::DataType::F16
                   : dtype == DType::BF16 ? cuda::DataType::BF16
                                          : cuda::DataType::F32;
    if (c.conv) {
        const std::int64_t out = (c.n[2] + 2 * (c.n[5] / 2) - c.n[5]) / c.n[6] + 1;
        product.m = c.n[0] * out * out;
        product.n = c.n[4];
        product.k = c.n[1] * c.n[5] * c.n[5];
        product.windows.emplace();
        product.windows->images = c.n[0];
        product.windows->channels = c.n[1];
        product.windows->height = c.n[2];
        product.windows->width = c.n[3];
        product.windows->kernel_height = product.windows->kernel_width = c.n[5];
        product.windows->stride_y = product.windows->stride_x = c.n[6];
        product.windows->pad_y = product.windows->pad_x = c.n[5] / 2;
        product.windows->rows = product.windows->columns = out;
    } else {
        product.m = c.n[0];
        product.n = c.n[1];
        product.k = c.n[2];
        product.halves = c.gated ? 2 : 1;
        if (c.norm)
            product.statistics = c.norm == NormKind::MeanSquare ? cuda::RowStatistics::MeanSquare
                                                                : cuda::RowStatistics::Variance;
    }
    return product;
}

cuda::FewChannels few_channels_of(const Case& c, Precision precision) {
    const cuda::TensorProduct product = problem_of(c, precision);
    cuda::FewChannels conv;
    conv.type = product.type;
    conv.exact = product.exact;
    conv.n = product.n;
    conv.windows = *product.windows;
    return conv;
}

namespace {

double reference(const Case& c, const Problem& p, const Ints& at) {
    if (c.pair) return pair_reference(c, p, at);
    if (!c.pooled) return product_element(c, p, at);
    const cuda::ProductWindows windows = few_channels_of(c, Precision::F32).windows;
    double best = 0;  // by relu
    for (std::int64_t i = 2 * at[2] - 1; i <= 2 * at[2] + 1; ++i)
        for (std::int64_t j = 2 * at[3] - 1; j <= 2 * at[3] + 1; ++j)
            if (i >= 0 && j >= 0 && i < windows.rows && j < windows.columns)
                best = std::max(best, product_element(c, p, {at[0], at[1], i, j}));
    return best;
}

}  // namespace

Samples sample(const Case& c, const Problem& problem) {
    Samples samples;
    Random random(11);
    for (int i = 0; i < 400; ++i) {
        Ints place;
        for (const std::int64_t size : problem.y)
            place.push_back(
                static_cast<std::int64_t>(random.bits() % static_cast<std::uint64_t>(size)));
        samples.values.push_back(reference(c, problem, place));
        samples.places.push_back(std::move(place));
    }
    return samples;
}

}  // namespace kn::bench
