// A fast Fourier transform in shared memory, in double, one lane by one block: of kSize = 2^n
// elements itself (kChirp false), or of any kLength through a convolution of kSize (Bluestein).
// In front: x(lane, j, part), store(lane, j, part, value), the sizes, kTurn = 2 pi, kSign,
// kScale.
struct Complex {
    double re, im;
};
KN_SHARED Complex data[kSize];
KN_SHARED Complex roots[kSize / 2 > 0 ? kSize / 2 : 1];  // exp(2 pi i k / kSize)
const auto multiply = [](Complex a, Complex b) {
    return Complex{a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
};
const auto root = [](Int turn, Int of) {
    const double angle = kTurn * (double)turn / (double)of;
    return Complex{cos(angle), sin(angle)};
};
// exp(sign pi i j^2 / kLength), its angle exact.
const auto chirp = [&](Int j, double sign) {
    Complex value = root((Int)((unsigned long long)j * j % (2ull * kLength)), 2 * (Int)kLength);
    value.im *= sign;
    return value;
};
// In place, from natural to bit-reversed order; `sign` of the exponent.
const auto forward = [&](double sign) {
    for (int half = kSize / 2; half > 0; half /= 2) {
        kn_sync();
        for (int pair = threadIdx.x; pair < kSize / 2; pair += blockDim.x) {
            const int k = pair & (half - 1);
            const int i = 2 * pair - k;
            Complex w = roots[k * (kSize / 2 / half)];
            w.im *= sign;
            const Complex a = data[i], b = data[i + half];
            data[i] = {a.re + b.re, a.im + b.im};
            data[i + half] = multiply({a.re - b.re, a.im - b.im}, w);
        }
    }
    kn_sync();
};
// Its inverse but for the factor kSize: from bit-reversed to natural order.
const auto backward = [&](double sign) {
    for (int half = 1; half < kSize; half *= 2) {
        kn_sync();
        for (int pair = threadIdx.x; pair < kSize / 2; pair += blockDim.x) {
            const int k = pair & (half - 1);
            const int i = 2 * pair - k;
            Complex w = roots[k * (kSize / 2 / half)];
            w.im *= sign;
            const Complex a = data[i], b = multiply(data[i + half], w);
            data[i] = {a.re + b.re, a.im + b.im};
            data[i + half] = {a.re - b.re, a.im - b.im};
        }
    }
    kn_sync();
};
const auto reversed = [](unsigned i) {
    unsigned out = 0;
    for (int bit = 1; bit < kSize; bit *= 2, i /= 2) out = out * 2 + i % 2;
    return (int)out;
};

for (int i = threadIdx.x; i < kSize / 2; i += blockDim.x) roots[i] = root(i, kSize);
constexpr int kEach = (kSize + kThreads - 1) / kThreads;
Complex spectrum[kEach];  // of the chirp, this thread's part
if (kChirp) {
    for (int i = threadIdx.x; i < kSize; i += blockDim.x) {
        const int j = i < kLength ? i : kSize - i;
        data[i] = j < kLength ? chirp(j, -kSign) : Complex{0, 0};
    }
    forward(-1);
    for (int e = 0; e < kEach; ++e) {
        const int i = threadIdx.x + e * kThreads;
        if (i < kSize) spectrum[e] = data[i];
    }
}
for (Int lane = blockIdx.x; lane < kLanes; lane += gridDim.x) {
    kn_sync();
    for (int i = threadIdx.x; i < kSize; i += blockDim.x) {
        if (i >= kLength) {
            data[i] = {0, 0};
            continue;
        }
        const Complex value{x(lane, i, 0), x(lane, i, 1)};
        data[i] = kChirp ? multiply(value, chirp(i, kSign)) : value;
    }
    forward(kChirp ? -1 : kSign);
    if (!kChirp) {
        for (int i = threadIdx.x; i < kSize; i += blockDim.x) {
            store(lane, reversed(i), 0, data[i].re * kScale);
            store(lane, reversed(i), 1, data[i].im * kScale);
        }
    } else {
        for (int e = 0; e < kEach; ++e) {
            const int i = threadIdx.x + e * kThreads;
            if (i < kSize) data[i] = multiply(data[i], spectrum[e]);
        }
        backward(1);
        for (int i = threadIdx.x; i < kLength; i += blockDim.x) {
            const Complex value = multiply(data[i], chirp(i, kSign));
            store(lane, i, 0, value.re * (kScale / kSize));
            store(lane, i, 1, value.im * (kScale / kSize));
        }
    }
}
