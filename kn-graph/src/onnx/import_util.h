// What the importers share.
#pragma once

#include <fmt/core.h>

#include <string>
#include <vector>

#include "builder/common.h"
#include "onnx/node.h"

namespace kn::onnx {

using builder::add;

/// The elements of an integer tensor of rank 0 or 1 (static shape) that only the data decide: read
/// at run time into fresh symbols "prefix_N".
std::vector<Dim> read_dims(Var x, const std::string& prefix, std::int64_t minimum = 0);

/// Input i of any numeric dtype as Dims; fractions are cut off.
std::vector<Dim> numeric_dims(Node& node, std::size_t i, const std::string& prefix);

/// 0, 1, ... size-1 (i64) along `axis` of a tensor of `rank` dims, the others 1.
Var iota_along(Graph& graph, const Dim& size, std::size_t axis, std::size_t rank);

/// Zero (false) of x's dtype, rank 0.
inline Var zero_like(Var x) { return scalar_like(x, 0); }

/// A tensor of one element as rank 0.
inline Var as_scalar(Var x) { return reshape(x, Shape{}); }

/// x [C] or any shape as it broadcasts along `axis` of a tensor of `rank` dims.
Var along_axis(Var x, std::size_t axis, std::size_t rank);

/// The dtype in which statistics of `dtype` are computed: f32 for half types, else itself.
inline DType wide_dtype(DType dtype) { return is_half(dtype) ? DType::F32 : dtype; }

/// first, first + 1, ..., rank - 1
inline Ints axes_from(std::size_t rank, std::size_t first) {
    Ints axes;
    for (std::size_t i = first; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
    return axes;
}

/// The tables that make up shape_rows(), index_rows(), reduction_rows(), linear_rows(),
/// conv_rows(), ...
std::vector<ImportRow> slice_rows();
std::vector<ImportRow> generator_rows();
std::vector<ImportRow> scatter_rows();
std::vector<ImportRow> loss_rows();
std::vector<ImportRow> einsum_rows();
std::vector<ImportRow> grid_rows();
std::vector<ImportRow> rotary_rows();
std::vector<ImportRow> linear_attention_rows();
std::vector<ImportRow> integer_rows();
std::vector<ImportRow> contrib_attention_rows();
std::vector<ImportRow> contrib_quantize_rows();

/// Appends the rows of `more`.
inline void append(std::vector<ImportRow>& rows, const std::vector<ImportRow>& more) {
    rows.insert(rows.end(), more.begin(), more.end());
}

}  // namespace kn::onnx
