// A depthwise convolution whose channels lie side by side in x, weights and result.
// In front: x_at(n, c, d, h, w), weight_at(c, d, h, w) and y_at, addresses of kVector elements;
// finish(n, c, d, h, w, sum), the value to store; the sizes. A thread makes kColumns neighbouring
// positions of kVector channels.
using Vector = kn_vector<x_t, kVector>;
constexpr int kTiles = (kOut2 + kColumns - 1) / kColumns;
constexpr int kVectors = kChannels / kVector;
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kBatch * kOut0 * kOut1 * kTiles * kVectors) return;
const int c = (int)(task % kVectors) * kVector;
const Int first = task / kVectors % kTiles * kColumns;
const Int oh = task / kVectors / kTiles % kOut1;
const Int od = task / kVectors / kTiles / kOut1 % kOut0;
const Int n = task / kVectors / kTiles / kOut1 / kOut0;

float sum[kColumns][kVector] = {};
for (int kd = 0; kd < kKernel0; ++kd) {
    const Int d = od * kStride0 - kBefore0 + kd * kDilation0;
    if (d < 0 || d >= kIn0) continue;
    for (int kh = 0; kh < kKernel1; ++kh) {
        const Int h = oh * kStride1 - kBefore1 + kh * kDilation1;
        if (h < 0 || h >= kIn1) continue;
#pragma unroll
        for (int kw = 0; kw < kKernel2; ++kw) {
            const Vector factors = *(const Vector*)weight_at(c, kd, kh, kw);
#pragma unroll
            for (int i = 0; i < kColumns; ++i) {
                const Int w = (first + i) * kStride2 - kBefore2 + kw * kDilation2;
                if (w < 0 || w >= kIn2) continue;
                const Vector values = *(const Vector*)x_at(n, c, d, h, w);
#pragma unroll
                for (int v = 0; v < kVector; ++v)
                    sum[i][v] += kn_widen(values.lane[v]) * kn_widen(factors.lane[v]);
            }
        }
    }
}
#pragma unroll
for (int i = 0; i < kColumns; ++i) {
    const Int ow = first + i;
    if (ow >= kOut2) break;
    Vector result;
#pragma unroll
    for (int v = 0; v < kVector; ++v)
        result.lane[v] = kn_cast<x_t>(finish(n, c + v, od, oh, ow, sum[i][v]));
    *(Vector*)y_at(n, c, od, oh, ow) = result;
}
