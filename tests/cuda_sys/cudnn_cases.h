// Problems, host tensors in any layout, and references in double for the cuDNN tests.
#pragma once

#include <dlfcn.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "gpu_test.h"
#include "kn/cuda_sys/cudnn.h"
#include "reference.h"

namespace kn::test {

using namespace kn::cuda;

inline DeviceProperties h200() {
    std::ifstream file(data_folder() + "/h200.json");
    return device_properties_from_json({std::istreambuf_iterator<char>(file), {}});
}

/// Run-time fusions need a libcuda, real or fake.
inline bool have_libcuda() { return dlopen("libcuda.so.1", RTLD_LAZY) != nullptr; }

#define KN_REQUIRE_LIBCUDA()       \
    if (!kn::test::have_libcuda()) \
    GTEST_SKIP() << "there is no libcuda.so.1; the test fake_driver runs this with a fake one"

struct HostTensor {
    TensorDesc desc;
    std::vector<float> values;  // in memory order, gaps included

    explicit HostTensor(TensorDesc d) : desc(std::move(d)), values(extent()) {}
    HostTensor(TensorDesc d, unsigned seed)
        : desc(std::move(d)), values(random_values(extent(), seed)) {}

    std::size_t extent() const {
        std::int64_t last = 0;
        for (std::size_t i = 0; i < desc.dims.size(); ++i)
            last += (desc.dims[i] - 1) * desc.strides[i];
        return static_cast<std::size_t>(last + 1);
    }
    /// The value at an index; dimensions of extent 1 broadcast.
    float at(const std::vector<std::int64_t>& index) const {
        std::int64_t offset = 0;
        for (std::size_t i = 0; i < index.size(); ++i)
            offset += desc.dims[i] == 1 ? 0 : index[i] * desc.strides[i];
        return values[static_cast<std::size_t>(offset)];
    }
};

/// Calls f(index) for every index of `dims`, row-major.
template <class F>
void for_each_index(const std::vector<std::int64_t>& dims, F&& f) {
    std::vector<std::int64_t> index(dims.size());
    for (;;) {
        f(static_cast<const std::vector<std::int64_t>&>(index));
        std::size_t i = dims.size();
        while (i > 0 && ++index[i - 1] == dims[i - 1]) index[--i] = 0;
        if (i == 0) return;
    }
}

inline double activate(double v, const Epilogue& e) {
    switch (e.activation) {
        case Activation::None: return v;
        case Activation::Relu: return std::max(v, 0.0);
        case Activation::LeakyRelu: return v < 0 ? v * e.slope : v;
        case Activation::Clip: return std::min(std::max(v, double(e.low)), double(e.high));
        case Activation::Sigmoid: return 1 / (1 + std::exp(-v));
        case Activation::Tanh: return std::tanh(v);
        case Activation::Elu: return v < 0 ? e.slope * std::expm1(v) : v;
        case Activation::Swish: return v / (1 + std::exp(-v));
        case Activation::Gelu: return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
        case Activation::GeluTanh:
            return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    }
    return v;
}

/// Results in row-major order of the output's dims. `in` is in the order of operands(desc), without
/// the output.
inline double epilogue_at(double v, const Epilogue& e, const std::vector<HostTensor>& in,
                          std::size_t next, const std::vector<std::int64_t>& index) {
    if (e.residual) v += in[next++].at(index);
    if (e.bias) v += in[next].at(index);
    return activate(v, e);
}

inline std::int64_t value_or(const std::vector<std::int64_t>& values, std::size_t i,
                             std::int64_t fallback) {
    return values.empty() ? fallback : values[i];
}

inline std::vector<double> reference(const ConvDesc& d, const std::vector<HostTensor>& in) {
    std::vector<double> result;
    const HostTensor &x = in[0], &w = in[1];
    std::int64_t channels = d.w.dims[1], groups = d.x.dims[1] / channels,
                 outputs = d.w.dims[0] / groups;
    std::vector<std::int64_t> taps(d.w.dims.begin() + 1, d.w.dims.end());
    for_each_index(d.y.dims, [&](const auto& o) {
        double sum = 0;
        for_each_index(taps, [&](const auto& t) {
            std::vector<std::int64_t> xi{o[0], o[1] / outputs * channels + t[0]}, wi{o[1], t[0]};
            for (std::size_t s = 0; s + 1 < t.size(); ++s) {
                std::int64_t at = o[s + 2] * value_or(d.stride, s, 1) +
                                  t[s + 1] * value_or(d.dilation, s, 1) -
                                  value_or(d.pad_before, s, 0);
                if (at < 0 || at >= d.x.dims[s + 2]) return;
                xi.push_back(at);
                wi.push_back(t[s + 1]);
            }
            sum += double(x.at(xi)) * w.at(wi);
        });
        result.push_back(epilogue_at(sum, d.epilogue, in, 2, o));
    });
    return result;
}

inline std::vector<double> reference(const ConvTransposeDesc& d,
                                     const std::vector<HostTensor>& in) {
    // Scatter: each input adds its patch to the output.
    HostTensor sums(dense(DataType::F32, d.y.dims));
    std::vector<double> result(sums.values.size());
    std::int64_t outputs = d.w.dims[1], groups = d.y.dims[1] / outputs,
                 channels = d.w.dims[0] / groups;
    std::vector<std::int64_t> taps(d.w.dims.begin() + 1, d.w.dims.end());
    for_each_index(d.x.dims, [&](const auto& i) {
        for_each_index(taps, [&](const auto& t) {
            std::vector<std::int64_t> wi{i[1], t[0]};
            std::int64_t offset = i[0] * sums.desc.strides[0] +
                                  (i[1] / channels * outputs + t[0]) * sums.desc.strides[1];
            for (std::size_t s = 0; s + 1 < t.size(); ++s) {
                std::int64_t at = i[s + 2] * value_or(d.stride, s, 1) +
                                  t[s + 1] * value_or(d.dilation, s, 1) -
                                  value_or(d.pad_before, s, 0);
                if (at < 0 || at >= d.y.dims[s + 2]) return;
                offset += at * sums.desc.strides[s + 2];
                wi.push_back(t[s + 1]);
            }
            result[static_cast<std::size_t>(offset)] += double(in[0].at(i)) * in[1].at(wi);
        });
    });
    std::size_t next = 0;
    for_each_index(d.y.dims, [&](const auto& o) {
        result[next] = epilogue_at(result[next], d.epilogue, in, 2, o);
        ++next;
    });
    return result;
}

inline std::vector<double> reference(const PoolDesc& d, const std::vector<HostTensor>& in) {
    std::vector<double> result;
    for_each_index(d.y.dims, [&](const auto& o) {
        double best = -INFINITY, sum = 0, count = 0, all = 0;
        for_each_index(d.window, [&](const auto& t) {
            ++all;
            std::vector<std::int64_t> xi{o[0], o[1]};
            for (std::size_t s = 0; s < t.size(); ++s) {
                std::int64_t at =
                    o[s + 2] * value_or(d.stride, s, 1) + t[s] - value_or(d.pad_before, s, 0);
                if (at < 0 || at >= d.x.dims[s + 2]) return;
                xi.push_back(at);
            }
            double v = in[0].at(xi);
            best = std::max(best, v);
            sum += v;
            ++count;
        });
        result.push_back(d.mode == Pooling::Max ? best
                                                : sum / (d.mode == Pooling::Average ? count : all));
    });
    return result;
}

inline std::vector<double> reference(const CudnnMatmulDesc& d, const std::vector<HostTensor>& in) {
    std::vector<double> result;
    for_each_index(d.y.dims, [&](const auto& o) {
        double sum = 0;
        for (std::int64_t k = 0; k < d.a.dims[2]; ++k)
            sum += double(in[0].at({o[0], o[1], k})) * in[1].at({o[0], k, o[2]});
        result.push_back(epilogue_at(sum, d.epilogue, in, 2, o));
    });
    return result;
}

inline std::vector<double> reference(const SdpaDesc& d, const std::vector<HostTensor>& in) {
    std::int64_t depth = d.q.dims[3], rows = d.q.dims[2], columns = d.k.dims[2];
    double scale = d.scale ? *d.scale : 1 / std::sqrt(double(depth));
    std::size_t lengths = d.bias ? 4 : 3;
    std::vector<double> result;
    std::vector<std::int64_t> row_dims(d.o.dims.begin(), d.o.dims.end() - 1);
    for_each_index(row_dims, [&](const auto& row) {
        std::int64_t b = row[0], h = row[1], i = row[2];
        std::int64_t hk = h / (d.q.dims[1] / d.k.dims[1]), hv = h / (d.q.dims[1] / d.v.dims[1]);
        std::int64_t valid_rows = rows, valid = columns;
        if (d.sequence_lengths) {
            valid_rows = static_cast<std::int64_t>(in[lengths].values[b]);
            valid = static_cast<std::int64_t>(in[lengths + 1].values[b]);
        }
        if (d.causal == CausalMask::TopLeft) valid = std::min(valid, i + 1);
        if (d.causal == CausalMask::BottomRight) valid = std::min(valid, i + 1 + columns - rows);
        std::vector<double> weights(static_cast<std::size_t>(valid));
        double peak = -INFINITY, total = 0;
        for (std::int64_t j = 0; j < valid; ++j) {
            double s = 0;
            for (std::int64_t k = 0; k < depth; ++k)
                s += double(in[0].at({b, h, i, k})) * in[1].at({b, hk, j, k});
            weights[j] = scale * s + (d.bias ? in[3].at({b, h, i, j}) : 0.0f);
            peak = std::max(peak, weights[j]);
        }
        for (double& w : weights) total += w = std::exp(w - peak);
        for (std::int64_t k = 0; k < d.o.dims[3]; ++k) {
            double sum = 0;
            for (std::int64_t j = 0; j < valid; ++j) sum += weights[j] * in[2].at({b, hv, j, k});
            // Rows that do not count are zero.
            result.push_back(i < valid_rows && total > 0 ? sum / total : 0.0);
        }
    });
    return result;
}

}  // namespace kn::test
