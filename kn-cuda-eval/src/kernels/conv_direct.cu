// A convolution (kTransposed: its gradient) of any element type, layout and grouping.
// In front: x(n, c, d, h, w), weight(filter, c, d, h, w), store(n, filter, d, h, w, sum), acc_t, the
// sizes. A thread sums kFilters filters of one group at one position of the result.
const Int block = blockIdx.x / kFilterBlocks;
const Int position = block * blockDim.x + threadIdx.x;
const int filter_block = blockIdx.x % kFilterBlocks;
const int group = filter_block / kBlocksPerGroup;
const int first = filter_block % kBlocksPerGroup * kFilters;
if (position >= (Int)kBatch * kOut0 * kOut1 * kOut2) return;
const Int ow = position % kOut2;
const Int oh = position / kOut2 % kOut1;
const Int od = position / (kOut2 * kOut1) % kOut0;
const Int n = position / ((Int)kOut2 * kOut1 * kOut0);

// Where kernel element k meets x along an axis for the result's position o; -1 where it does not.
const auto meet = [](Int o, int k, int stride, int dilation, int before, Int in) -> Int {
    if (!kTransposed) {
        const Int i = o * stride - before + k * dilation;
        return i >= 0 && i < in ? i : -1;
    }
    const Int i = o + before - k * dilation;
    return i >= 0 && i % stride == 0 && i / stride < in ? i / stride : -1;
};

acc_t sum[kFilters] = {};
for (int kd = 0; kd < kKernel0; ++kd) {
    const Int d = meet(od, kd, kStride0, kDilation0, kBefore0, kIn0);
    if (d < 0) continue;
    for (int kh = 0; kh < kKernel1; ++kh) {
        const Int h = meet(oh, kh, kStride1, kDilation1, kBefore1, kIn1);
        if (h < 0) continue;
        for (int kw = 0; kw < kKernel2; ++kw) {
            const Int w = meet(ow, kw, kStride2, kDilation2, kBefore2, kIn2);
            if (w < 0) continue;
            for (int c = 0; c < kChannels; ++c) {
                const acc_t value = (acc_t)x(n, group * kChannels + c, d, h, w);
#pragma unroll
                for (int f = 0; f < kFilters; ++f) {
                    if (kPerGroup % kFilters != 0 && first + f >= kPerGroup) break;
                    const Int at = kTransposed ? group * kChannels + c : group * kPerGroup + first + f;
                    const Int of = kTransposed ? first + f : c;
                    sum[f] += value * (acc_t)weight(at, of, kd, kh, kw);
                }
            }
        }
    }
}
#pragma unroll
for (int f = 0; f < kFilters; ++f) {
    if (kPerGroup % kFilters != 0 && first + f >= kPerGroup) break;
    store(n, group * kPerGroup + first + f, od, oh, ow, sum[f]);
}
