#include "cudnn_normalise.h"

#include "check.h"

namespace kn::cuda::detail {

namespace {

// cuDNN starts at two spatial dimensions: one gets a dimension of extent 1 in front.
void lift(TensorDesc& t) {
    t.dims.insert(t.dims.begin() + 2, 1);
    t.strides.insert(t.strides.begin() + 2, t.dims.back() * t.strides.back());
}
void lift(std::vector<std::int64_t>& values, std::int64_t value) {
    values.insert(values.begin(), value);
}

void fill(std::vector<std::int64_t>& values, std::size_t spatial, std::int64_t value,
          const char* what) {
    if (values.empty()) values.assign(spatial, value);
    KN_CUDA_REQUIRE(values.size() == spatial, "cuDNN", "{} has {} values for {} dimensions", what,
                    values.size(), spatial);
}

std::size_t spatial_rank(const TensorDesc& x, std::initializer_list<const TensorDesc*> others) {
    std::size_t rank = x.dims.size();
    KN_CUDA_REQUIRE(rank >= 3 && rank <= 5, "cuDNN", "{} dimensions, not 3 to 5", rank);
    for (const TensorDesc* t : others)
        KN_CUDA_REQUIRE(t->dims.size() == rank, "cuDNN", "operands of {} and {} dimensions", rank,
                        t->dims.size());
    return rank - 2;
}

template <class Desc>
Desc normalise_conv(Desc d) {
    std::size_t spatial = spatial_rank(d.x, {&d.w, &d.y});
    fill(d.pad_before, spatial, 0, "pad_before");
    fill(d.pad_after, spatial, 0, "pad_after");
    fill(d.stride, spatial, 1, "stride");
    fill(d.dilation, spatial, 1, "dilation");
    if (spatial > 1) return d;
    for (TensorDesc* t : {&d.x, &d.w, &d.y}) lift(*t);
    if (d.epilogue.residual) lift(*d.epilogue.residual);
    if (d.epilogue.bias) lift(*d.epilogue.bias);
    lift(d.pad_before, 0);
    lift(d.pad_after, 0);
    lift(d.stride, 1);
    lift(d.dilation, 1);
    return d;
}

}  // namespace

void check_tensors(const CudnnProblem& problem) {
    for (const CudnnOperand& o : operands(problem)) {
        KN_CUDA_REQUIRE(o.tensor.dims.size() == o.tensor.strides.size() && !o.tensor.dims.empty(),
                        "cuDNN", "{} has {} extents and {} strides", o.name, o.tensor.dims.size(),
                        o.tensor.strides.size());
        for (std::int64_t d : o.tensor.dims)
            KN_CUDA_REQUIRE(d > 0, "cuDNN", "{} has an extent of {}", o.name, d);
    }
}

ConvDesc normalise(ConvDesc desc) { return normalise_conv(std::move(desc)); }
ConvTransposeDesc normalise(ConvTransposeDesc desc) { return normalise_conv(std::move(desc)); }

PoolDesc normalise(PoolDesc d) {
    std::size_t spatial = spatial_rank(d.x, {&d.y});
    KN_CUDA_REQUIRE(d.window.size() == spatial, "cuDNN", "window has {} values for {} dimensions",
                    d.window.size(), spatial);
    fill(d.pad_before, spatial, 0, "pad_before");
    fill(d.pad_after, spatial, 0, "pad_after");
    fill(d.stride, spatial, 1, "stride");
    if (spatial == 1) {
        lift(d.x), lift(d.y);
        lift(d.pad_before, 0), lift(d.pad_after, 0), lift(d.stride, 1), lift(d.window, 1);
    }
    return d;
}

}  // namespace kn::cuda::detail
