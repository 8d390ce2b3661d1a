// A discrete Fourier transform by its definition, one element by one thread, in double.
// In front: x(lane, j, part), store(lane, j, part, value), kLanes, kLength, kTurn = 2 pi, kSign, kScale.
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kLanes * kLength) return;
const Int lane = task / kLength;
const Int k = task % kLength;
double re = 0, im = 0;
Int turn = 0;  // j * k modulo the length: exact angles
for (Int j = 0; j < kLength; ++j) {
    const double angle = kTurn * (double)turn / (double)kLength;
    const double cosine = cos(angle), sine = kSign * sin(angle);
    const double a = x(lane, j, 0), b = x(lane, j, 1);
    re += a * cosine - b * sine;
    im += a * sine + b * cosine;
    turn += k;
    if (turn >= kLength) turn -= kLength;
}
store(lane, k, 0, re * kScale);
store(lane, k, 1, im * kScale);
