// What cuBLASLt and cuDNN do, by kn::cpu on dense copies of the operands.
#include <cmath>

#include <kn/graph/builder.h>
#include <kn/graph/cpu.h>

#include "host_shim.h"

namespace kn::cuda {

namespace {

DType dtype_of(DataType type) {
    switch (type) {
        case DataType::F16: return DType::F16;
        case DataType::BF16: return DType::BF16;
        case DataType::F32: return DType::F32;
        case DataType::F64: return DType::F64;
        case DataType::I8: return DType::I8;
        case DataType::U8: return DType::U8;
        case DataType::I32: return DType::I32;
        case DataType::I64: return DType::I64;
        case DataType::Bool: return DType::Bool;
    }
    return DType::F32;
}

/// A graph in the type sums are made in, its operands and the addresses of the next ones.
class LibraryStep {
  public:
    LibraryStep(std::span<std::byte* const> addresses, DType compute)
        : addresses_(addresses), compute_(compute) {}

    Var read(DataType type, const Ints& shape, const Ints& strides) {
        const Tensor x = gather_strided(addresses_[next_++], dtype_of(type), shape, strides);
        return graph.constant(x.cast(compute_));
    }
    Var read(const TensorDesc& tensor) { return read(tensor.type, tensor.dims, tensor.strides); }

    Var activate(Var x, const Epilogue& epilogue) {
        const auto scalar = [&](double value) {
            return graph.constant(Tensor::scalar(value).cast(compute_));
        };
        switch (epilogue.activation) {
            case Activation::None: return x;
            case Activation::Relu: return relu(x);
            case Activation::LeakyRelu:
                return select(less(x, scalar(0)), x * scalar(epilogue.slope), x);
            case Activation::Clip:
                return minimum(maximum(x, scalar(epilogue.low)), scalar(epilogue.high));
            case Activation::Sigmoid: return unary(UnaryOp::Sigmoid, x);
            case Activation::Tanh: return unary(UnaryOp::Tanh, x);
            case Activation::Elu:
                return select(less(x, scalar(0)), scalar(epilogue.slope) * unary(UnaryOp::Expm1, x),
                              x);
            case Activation::Swish: return unary(UnaryOp::Silu, x);
            case Activation::Gelu: return unary(UnaryOp::Gelu, x);
            case Activation::GeluTanh: return unary(UnaryOp::GeluTanh, x);
        }
        return x;
    }

    Var finish(Var x, const Epilogue& epilogue) {
        if (epilogue.residual) x = x + read(*epilogue.residual);
        if (epilogue.bias) x = x + read(*epilogue.bias);
        return activate(x, epilogue);
    }

    void write(Var y, DataType type, const Ints& strides) {
        graph.output("y", y);
        const Tensor result = cpu::run(graph, {}).at(0).cast(dtype_of(type));
        scatter_strided(result, addresses_[next_++], strides);
    }

    Graph graph;

  private:
    std::span<std::byte* const> addresses_;
    std::size_t next_ = 0;
    DType compute_;
};

Ints or_ones(const Ints& values, std::size_t count) {
    return values.empty() ? Ints(count, 1) : values;
}
std::vector<Dim> or_zeros(const Ints& values, std::size_t count) {
    return values.empty() ? std::vector<Dim>(count, Dim(0))
                          : std::vector<Dim>(values.begin(), values.end());
}

DType wide(DataType type) { return type == DataType::F64 ? DType::F64 : DType::F32; }

void run(const ConvDesc& conv, std::span<std::byte* const> addresses) {
    LibraryStep step(addresses, wide(conv.x.type));
    const Var x = step.read(conv.x), w = step.read(conv.w);
    const std::size_t dims = conv.x.dims.size() - 2;
    const Var y = step.graph.var(
        step.graph.add(op::Conv{x, w, or_ones(conv.stride, dims), or_ones(conv.dilation, dims),
                                or_zeros(conv.pad_before, dims), or_zeros(conv.pad_after, dims),
                                conv.x.dims[1] / conv.w.dims[1]}));
    step.write(step.finish(y, conv.epilogue), conv.y.type, conv.y.strides);
}

void run(const ConvTransposeDesc& conv, std::span<std::byte* const> addresses) {
    LibraryStep step(addresses, wide(conv.x.type));
    const Var x = step.read(conv.x), w = step.read(conv.w);
    const std::size_t dims = conv.x.dims.size() - 2;
    const auto before = or_zeros(conv.pad_before, dims), after = or_zeros(conv.pad_after, dims);
    const Ints stride = or_ones(conv.stride, dims), dilation = or_ones(conv.dilation, dims);
    std::vector<Dim> output_padding;
    for (std::size_t i = 0; i < dims; ++i)
        output_padding.emplace_back(conv.y.dims[i + 2] -
                                    ((conv.x.dims[i + 2] - 1) * stride[i] +
                                     (conv.w.dims[i + 2] - 1) * dilation[i] + 1 -
                                     before[i].value() - after[i].value()));
    const Var y = step.graph.var(step.graph.add(op::ConvTranspose{
        x, w, stride, dilation, before, after, output_padding, conv.y.dims[1] / conv.w.dims[1]}));
    step.write(step.finish(y, conv.epilogue), conv.y.type, conv.y.strides);
}

void run(const PoolDesc& pool, std::span<std::byte* const> addresses) {
    LibraryStep step(addresses, wide(pool.x.type));
    const Var x = step.read(pool.x);
    const std::size_t dims = pool.x.dims.size() - 2;
    const auto before = or_zeros(pool.pad_before, dims), after = or_zeros(pool.pad_after, dims);
    const bool largest = pool.mode == Pooling::Max;
    const double fill = largest ? -std::numeric_limits<double>::infinity() : 0;
    Graph& g = step.graph;
    std::vector<Dim> b(2, Dim(0)), a(2, Dim(0));
    b.insert(b.end(), before.begin(), before.end());
    a.insert(a.end(), after.begin(), after.end());
    Ints axes, last;
    for (std::size_t i = 0; i < dims; ++i) {
        axes.push_back(static_cast<std::int64_t>(i) + 2);
        last.push_back(static_cast<std::int64_t>(i + 2 + dims));
    }
    const auto windows = [&](Var v, double value) {
        const Var f = g.constant(Tensor::scalar(value).cast(v.dtype()));
        const Value padded = g.add(op::Pad{v, b, a, PadMode::Constant, f.value});
        return g.add(op::Window{padded, axes,
                                std::vector<Dim>(pool.window.begin(), pool.window.end()),
                                or_ones(pool.stride, dims), Ints(dims, 1)});
    };
    Var y =
        g.var(g.add(op::Reduce{largest ? ReduceOp::Max : ReduceOp::Sum, windows(x, fill), last}));
    if (pool.mode == Pooling::AverageWithPadding) {
        double count = 1;
        for (const std::int64_t size : pool.window) count *= static_cast<double>(size);
        y = y / g.constant(Tensor::scalar(count).cast(y.dtype()));
    } else if (pool.mode == Pooling::Average) {
        const Var ones =
            g.constant(Tensor::from_span<double>({1}, std::vector<double>{1.0}).cast(y.dtype()));
        const Var full = broadcast_to(ones, Shape::of(pool.x.dims));
        y = y / g.var(g.add(op::Reduce{ReduceOp::Sum, windows(full, 0), last}));
    }
    step.write(y, pool.y.type, pool.y.strides);
}

void run(const CudnnMatmulDesc& product, std::span<std::byte* const> addresses) {
    LibraryStep step(addresses, wide(product.a.type));
    const auto batch = [&](Var x) {
        Ints shape = product.y.dims;
        for (std::size_t i = shape.size() - 2; i < shape.size(); ++i)
            shape[i] = x.shape()[i].value();
        return broadcast_to(x, Shape::of(shape));
    };
    const Var a = batch(step.read(product.a)), b = batch(step.read(product.b));
    const Var y = step.graph.var(step.graph.add(op::MatMul{a, b}));
    step.write(step.finish(y, product.epilogue), product.y.type, product.y.strides);
}

void run(const SdpaDesc& sdpa, std::span<std::byte* const> addresses) {
    LibraryStep step(addresses, DType::F32);
    const Var q = step.read(sdpa.q), k = step.read(sdpa.k), v = step.read(sdpa.v);
    std::optional<Value> mask;
    if (sdpa.bias) mask = step.read(*sdpa.bias);
    const auto causal = static_cast<kn::CausalMask>(sdpa.causal);
    KN_CHECK(!sdpa.sequence_lengths);
    const double scale =
        sdpa.scale ? *sdpa.scale : 1 / std::sqrt(static_cast<double>(sdpa.q.dims.back()));
    const Var y = step.graph.var(step.graph.add(op::Attention{q, k, v, mask, scale, causal}));
    step.write(y, sdpa.o.type, sdpa.o.strides);
}

}  // namespace

void run_on_host(const MatMulWork& work, std::span<std::byte* const> addresses) {
    const MatmulDesc& d = work.desc;
    const DType compute = d.compute == MatmulCompute::I32   ? DType::I32
                          : d.compute == MatmulCompute::F64 ? DType::F64
                                                            : DType::F32;
    LibraryStep step(addresses, compute);
    const auto leading = [](std::int64_t given, std::int64_t dense) {
        return given != 0 ? given : dense;
    };
    const std::int64_t lda = leading(d.lda, d.transpose_a ? d.m : d.k);
    const std::int64_t ldb = leading(d.ldb, d.transpose_b ? d.k : d.n);
    const Ints output{d.batch, d.m, d.n};
    const Var a = step.read(d.a_type, {d.batch, d.m, d.k},
                            d.transpose_a ? Ints{d.stride_a, 1, lda} : Ints{d.stride_a, lda, 1});
    const Var b = step.read(d.b_type, {d.batch, d.k, d.n},
                            d.transpose_b ? Ints{d.stride_b, 1, ldb} : Ints{d.stride_b, ldb, 1});
    Var y = step.graph.var(step.graph.add(op::MatMul{a, b}));
    const auto scaled = [&](Var x, double factor) {
        if (factor == 1) return x;
        return x * step.graph.constant(Tensor::scalar(factor).cast(compute));
    };
    y = scaled(y, work.alpha);
    if (work.beta != 0)
        y = y +
            scaled(step.read(d.d_type, output, {d.stride_c, leading(d.ldc, d.n), 1}), work.beta);
    if (d.bias) y = y + step.read(d.d_type, {d.batch, 1, d.n}, {d.stride_bias, 0, 1});
    if (d.epilogue == MatmulEpilogue::Relu) y = relu(y);
    if (d.epilogue == MatmulEpilogue::GeluTanh) y = unary(UnaryOp::GeluTanh, y);
    step.write(y, d.d_type, {d.stride_d, leading(d.ldd, d.n), 1});
}

void run_on_host(const CudnnWork& work, std::span<std::byte* const> addresses) {
    std::visit([&](const auto& problem) { run(problem, addresses); }, work.problem);
}

}  // namespace kn::cuda
