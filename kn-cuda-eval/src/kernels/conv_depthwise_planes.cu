// A depthwise convolution whose rows lie one behind the other.
// In front: x(n, c, d, h, w), weight(c, d, h, w), store(n, c, d, h, w, sum), the sizes. A thread
// makes kRows neighbouring rows of one column, so that an element of x serves several of them.
constexpr int kRowGroups = (kOut1 + kRows - 1) / kRows;
constexpr int kLines = (kRows - 1) * kStride1 + (kKernel1 - 1) * kDilation1 + 1;
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kBatch * kChannels * kOut0 * kRowGroups * kOut2) return;
const Int ow = task % kOut2;
const Int first = task / kOut2 % kRowGroups * kRows;
const Int od = task / kOut2 / kRowGroups % kOut0;
const Int c = task / kOut2 / kRowGroups / kOut0 % kChannels;
const Int n = task / kOut2 / kRowGroups / kOut0 / kChannels;

float sum[kRows] = {};
for (int kd = 0; kd < kKernel0; ++kd) {
    const Int d = od * kStride0 - kBefore0 + kd * kDilation0;
    if (d < 0 || d >= kIn0) continue;
#pragma unroll
    for (int kw = 0; kw < kKernel2; ++kw) {
        const Int w = ow * kStride2 - kBefore2 + kw * kDilation2;
        if (w < 0 || w >= kIn2) continue;
        float factor[kKernel1];
#pragma unroll
        for (int kh = 0; kh < kKernel1; ++kh) factor[kh] = weight(c, kd, kh, kw);
#pragma unroll
        for (int line = 0; line < kLines; ++line) {
            const Int h = first * kStride1 - kBefore1 + line;
            const float value = h >= 0 && h < kIn1 ? x(n, c, d, h, w) : 0.0f;
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                const int reach = line - r * kStride1;
                if (reach >= 0 && reach % kDilation1 == 0 && reach / kDilation1 < kKernel1)
                    sum[r] += value * factor[reach / kDilation1];
            }
        }
    }
}
#pragma unroll
for (int r = 0; r < kRows; ++r)
    if (first + r < kOut1) store(n, c, od, first + r, ow, sum[r]);
