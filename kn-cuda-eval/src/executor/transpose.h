// Transposition of matrices in host memory, at the speed of the memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace kn::cuda {

namespace detail {

// As many elements as 16 bytes have.
template <class T>
struct Lanes {
    static constexpr int count = 16 / sizeof(T);
    typedef T Vector __attribute__((vector_size(16)));

    template <bool high, std::size_t... i>
    static Vector interleave(Vector a, Vector b, std::index_sequence<i...>) {
        return __builtin_shufflevector(
            a, b, static_cast<int>(i % 2 * count + i / 2 + (high ? count / 2 : 0))...);
    }

    // A square of them: to[r][c] = from[c][r], lines `distance` and `pitch` elements apart.
    static void square(const T* from, std::int64_t distance, T* to, std::int64_t pitch) {
        Vector lines[count], next[count];
        for (int i = 0; i < count; i++) std::memcpy(&lines[i], from + i * distance, 16);
        constexpr auto all = std::make_index_sequence<count>();
        // Each round moves one bit of an element's column into its line.
        for (int round = 1; round < count; round *= 2) {
            for (int i = 0; i < count / 2; i++) {
                next[2 * i] = interleave<false>(lines[i], lines[i + count / 2], all);
                next[2 * i + 1] = interleave<true>(lines[i], lines[i + count / 2], all);
            }
            std::copy(next, next + count, lines);
        }
        for (int i = 0; i < count; i++) std::memcpy(to + i * pitch, &lines[i], 16);
    }
};

}  // namespace detail

/// to[r * to_line + c] = from[c * from_line + r] for all r < rows, c < columns; the two do not
/// overlap.
template <class T>
void transpose(const T* from, std::int64_t from_line, T* to, std::int64_t to_line,
               std::int64_t rows, std::int64_t columns) {
    using Lanes = detail::Lanes<T>;
    // Lines of large matrices often lie a power of two apart, and would push each other out of the
    // cache: a cache line of some of them goes through a tile in which they are neighbours.
    constexpr std::int64_t tile_rows = 64 / sizeof(T), tile_columns = 64;
    alignas(64) T tile[tile_rows][tile_columns];
    for (std::int64_t c0 = 0; c0 < columns; c0 += tile_columns) {
        const std::int64_t wide = std::min(columns - c0, tile_columns);
        const std::int64_t squares_wide = wide / Lanes::count * Lanes::count;
        for (std::int64_t r0 = 0; r0 < rows; r0 += tile_rows) {
            const std::int64_t high = std::min(rows - r0, tile_rows);
            const std::int64_t squares_high = high / Lanes::count * Lanes::count;
            const T* const first = from + c0 * from_line + r0;
            for (std::int64_t c = 0; c < squares_wide; c += Lanes::count) {
                for (std::int64_t r = 0; r < squares_high; r += Lanes::count)
                    Lanes::square(first + c * from_line + r, from_line, &tile[r][c], tile_columns);
                for (std::int64_t k = c; k < c + Lanes::count; k++)
                    for (std::int64_t r = squares_high; r < high; r++)
                        tile[r][k] = first[k * from_line + r];
            }
            for (std::int64_t c = squares_wide; c < wide; c++)
                for (std::int64_t r = 0; r < high; r++) tile[r][c] = first[c * from_line + r];
            for (std::int64_t r = 0; r < high; r++)
                std::memcpy(to + (r0 + r) * to_line + c0, tile[r],
                            static_cast<std::size_t>(wide) * sizeof(T));
        }
    }
}

}  // namespace kn::cuda
