// What products on tensor cores may err, as a part of the result's peak; tiles in messages and
// tests' names.
#pragma once

#include <ostream>
#include <string>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <kn/graph/device.h>

#include "lower/product_tiles.h"

namespace kn::cuda {

inline void PrintTo(const ProductTiles& tiles, std::ostream* out) { *out << to_string(tiles); }

}  // namespace kn::cuda

namespace kn::test {

struct ProductBound {
    Precision precision;
    double of_peak;  ///< float32: some roundings; others: those of the inputs' type, summed over k
};
constexpr ProductBound product_bounds[] = {{Precision::F32, 1e-6},
                                           {Precision::TF32, 2e-3},
                                           {Precision::F16, 3e-3},
                                           {Precision::BF16, 2e-2}};

inline std::string name_of_tiles(const ::testing::TestParamInfo<cuda::ProductTiles>& test) {
    const cuda::ProductTiles& tiles = test.param;
    return fmt::format("{}x{}{}{}{}{}{}", tiles.rows, tiles.columns, tiles.staged ? "Staged" : "",
                       tiles.winograd ? "Filtered" : "", tiles.turns ? "InTurns" : "",
                       tiles.share_w > 1 ? fmt::format("In{}s", tiles.share_w) : "",
                       tiles.splits > 1 ? fmt::format("KIn{}", tiles.splits) : "");
}

}  // namespace kn::test
