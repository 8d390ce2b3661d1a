// Combines updates with the result, which holds x, all at once. Integers, minima and maxima do not
// depend on the order; sums and products of floats do in their last digits.
// In front: y_of(i, lane), the address an update goes to; updates(i, lane); combine(old, update);
// word_t, what is exchanged at once; kCount, kLanes.
const Int task = (Int)blockIdx.x * blockDim.x + threadIdx.x;
if (task >= (Int)kCount * kLanes) return;
y_t* const place = y_of(task / kLanes, task % kLanes);
const y_t update = updates(task / kLanes, task % kLanes);
union Word {
    word_t bits;
    y_t element[sizeof(word_t) / sizeof(y_t)];
};
word_t* const word = (word_t*)((unsigned long long)place / sizeof(word_t) * sizeof(word_t));
const int part = (int)((unsigned long long)place % sizeof(word_t) / sizeof(y_t));
word_t seen = *word;
for (;;) {
    Word next{seen};
    next.element[part] = combine(next.element[part], update);
    const word_t found = kn_atomic_cas(word, seen, next.bits);
    if (found == seen) break;
    seen = found;
}
