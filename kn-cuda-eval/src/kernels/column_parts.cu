// Statistics of what an epilogue writes, for a norm behind it: the mean of KN_PART_ROWS rows by KN_PART_COLUMNS columns, and
// the squared distances from it. Parts of equal size are joined as kn_moments are (row_parts.cu).
//
// What the generator defines in front of this text:
//   KN_PART_COLUMNS   an even number; a block gives away a multiple of it
//   KN_PART_PIECES    pieces of 64 rows in a part: 1 or 2
//   KN_PART_UNITS     parts of a block's columns, at most
//   KN_PART_ITEM      columns of an item, which is what a warp notes of its rows; parts are whole numbers of them
//   KN_PART_BYTES     of shared memory in which a warp notes its own; 0: there are no statistics

constexpr int kn_part_rows = KN_PART_PIECES * 64, kn_part_items = KN_PART_UNITS * KN_PART_COLUMNS / KN_PART_ITEM;
constexpr int kn_parts_down = kn_pieces / KN_PART_PIECES;  // of a group's rows
static_assert(KN_PART_BYTES == kn_parts_down * kn_part_items * 8);

// x: mean, y: squared distances; of `count` numbers each.
KN_DEVICE float2 kn_join_alike(float2 a, float2 b, float count) {
    const float distance = b.x - a.x;
    return make_float2(a.x + distance * 0.5f, a.y + b.y + distance * distance * (count * 0.5f));
}

// Mean and squared distances of `count` numbers.
template <int count>
KN_DEVICE float2 kn_moments_of(const float (&x)[count]) {
    float sums[2] = {}, squares[2] = {};
#pragma unroll
    for (int i = 0; i < count; i++) sums[i % 2] += x[i];
    const float mean = (sums[0] + sums[1]) * (1.0f / count);
#pragma unroll
    for (int i = 0; i < count; i++) squares[i % 2] = fmaf(x[i] - mean, x[i] - mean, squares[i % 2]);
    return make_float2(mean, squares[0] + squares[1]);
}

KN_DEVICE void kn_note(float2* noted, int piece, int item, float2 moments) {
    float2& own = noted[piece / KN_PART_PIECES * kn_part_items + item];
    own = piece % KN_PART_PIECES == 0 ? moments : kn_join_alike(own, moments, 16 * KN_PART_ITEM);
}

// A warp's 16 rows of a piece, of KN_LANES neighbours: threads have x of their rows, `apart` lanes from thread to thread.
template <int apart, int trips>
KN_DEVICE void kn_note_lanes(float2* noted, int piece, int column, const float (&x)[trips][KN_LANES]) {
    constexpr int items = KN_LANES / KN_PART_ITEM;
    const int lane = threadIdx.x % 32;
    float2 moments[items];
#pragma unroll
    for (int k = 0; k < items; k++) {
        float of_item[trips * KN_PART_ITEM];
#pragma unroll
        for (int i = 0; i < trips * KN_PART_ITEM; i++) of_item[i] = x[i / KN_PART_ITEM][k * KN_PART_ITEM + i % KN_PART_ITEM];
        moments[k] = kn_moments_of(of_item);
    }
    // Threads exchange halves of their items while they have several.
    int left = items, first = 0, count = trips * KN_PART_ITEM;
#pragma unroll
    for (int mask = 16; mask >= apart; mask /= 2) {
        const bool upper = lane & mask;
        if (left > 1) {
            left /= 2;
#pragma unroll
            for (int k = 0; k < left; k++) {
                const float2 mine = upper ? moments[k + left] : moments[k], its = upper ? moments[k] : moments[k + left];
                moments[k] = kn_join_alike(mine, make_float2(kn_shuffle_xor(its.x, mask), kn_shuffle_xor(its.y, mask)), count);
            }
            if (upper) first += left;
        } else {
            moments[0] = kn_join_alike(moments[0], make_float2(kn_shuffle_xor(moments[0].x, mask), kn_shuffle_xor(moments[0].y, mask)), count);
        }
        count *= 2;
    }
    // Of those that have the same item now, one.
    if ((lane & (32 / items - 1)) < apart) kn_note(noted, piece, column / KN_PART_ITEM + first, moments[0]);
}

// The same of pairs of neighbours that lie in shared memory: read(row, pair).
template <class Read>
KN_DEVICE void kn_note_pairs(float2* noted, int piece, Read read) {
    constexpr int width = kn_part_items > 16 ? 32 : kn_part_items > 8 ? 16 : kn_part_items > 4 ? 8 : 4;
    constexpr int apart = 32 / width, rows = 16 / apart, at_once = rows < 8 ? rows : 8;
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int first = 0; first < kn_part_items; first += width) {
        const int place = first + lane % width, pair = place < kn_part_items ? place : kn_part_items - 1;
        float2 all = make_float2(0, 0);
#pragma unroll
        for (int row = 0; row < rows; row += at_once) {
            float x[2 * at_once];
#pragma unroll
            for (int i = 0; i < at_once; i++) {
                const float2 two = read((row + i) * apart + lane / width, pair);
                x[2 * i] = two.x;
                x[2 * i + 1] = two.y;
            }
            const float2 some = kn_moments_of(x);
            all = row == 0 ? some : kn_join_alike(all, some, 2 * at_once);
        }
#pragma unroll
        for (int mask = width; mask < 32; mask *= 2)
            all = kn_join_alike(all, make_float2(kn_shuffle_xor(all.x, mask), kn_shuffle_xor(all.y, mask)), 2 * rows * (mask / width));
        if (lane < width && place < kn_part_items) kn_note(noted, piece, place, all);
    }
}

// All threads of a group wait for each other.
KN_DEVICE void kn_sync_group() { kn_sync_some(2 + threadIdx.x / 128, 128); }

// All threads of a group: writes the parts of `columns` columns that its warps have noted, `pitch` apart.
KN_DEVICE void kn_give_parts(float2* parts, const float2* noted, int pitch, int columns, long long row0, int column0) {
    constexpr int most = KN_PART_UNITS * kn_parts_down, across = KN_PART_COLUMNS / KN_PART_ITEM, items = 4 * across;
    constexpr int fit = 128 / most;
    constexpr int team = fit >= 32 ? 32 : fit >= 16 ? 16 : fit >= 8 ? 8 : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
    const int thread = threadIdx.x % 128, units = columns / KN_PART_COLUMNS;
    kn_sync_group();
#pragma unroll 1
    for (int first = 0; first < most; first += 128 / team) {
        // Threads without a part do the last one again: no conditions around shuffles.
        const int wanted = first + thread / team, last = units * kn_parts_down - 1;
        const int place = wanted < last ? wanted : last, down = place / units, unit = place % units;
        const float2* const from = noted - thread / 32 * pitch + down * kn_part_items + unit * across;
        constexpr int trips = (items + team - 1) / team;
        float2 own[trips];
        float mean = 0, squares = 0;
#pragma unroll
        for (int n = 0; n < trips; n++) {
            const int i = n * team + thread % team;
            if (i < items) own[n] = from[i / across * pitch + i % across];
        }
#pragma unroll
        for (int n = 0; n < trips; n++)
            if (n * team + thread % team < items) mean += own[n].x;
#pragma unroll
        for (int mask = team / 2; mask > 0; mask /= 2) mean += kn_shuffle_xor(mean, mask);
        mean *= 1.0f / items;
#pragma unroll
        for (int n = 0; n < trips; n++)
            if (n * team + thread % team < items)
                squares += fmaf((own[n].x - mean) * (16 * KN_PART_ITEM * KN_PART_PIECES), own[n].x - mean, own[n].y);
#pragma unroll
        for (int mask = team / 2; mask > 0; mask /= 2) squares += kn_shuffle_xor(squares, mask);
        const long long row = row0 + down * kn_part_rows;
        const int column = column0 + unit * KN_PART_COLUMNS;
        if (wanted <= last && thread % team == 0 && row < KN_M && column < KN_N)
            parts[row / kn_part_rows * (KN_N / KN_PART_COLUMNS) + column / KN_PART_COLUMNS] = make_float2(mean, squares);
    }
}
