// The result of attention from parts that saw some keys each.
// In front: part(b, h, s, e, split), limits(b, h, s, split, 0 or 1), store(b, h, s, e, value), acc_t,
// the sizes. One thread, one element.
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kBatch * kHeads * kQueries * kValueWidth) return;
const Int e = task % kValueWidth;
const Int s = task / kValueWidth % kQueries;
const Int h = task / kValueWidth / kQueries % kHeads;
const Int b = task / kValueWidth / kQueries / kHeads;
acc_t largest = -infinity;
for (int split = 0; split < kSplits; ++split) {
    const acc_t other = limits(b, h, s, split, 0);
    largest = other > largest ? other : largest;
}
acc_t sum = 0, total = 0;
for (int split = 0; split < kSplits; ++split) {
    const acc_t own = limits(b, h, s, split, 0);
    const acc_t factor = own == -infinity ? acc_t(0) : exp(own - largest);
    sum += factor * part(b, h, s, e, split);
    total += factor * limits(b, h, s, split, 1);
}
store(b, h, s, e, sum / total);
