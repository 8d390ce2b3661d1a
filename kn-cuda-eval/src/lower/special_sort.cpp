// TopK: rows, or chunks of long ones, are sorted in shared memory; chunks are merged by rank.
#include <algorithm>

#include <fmt/core.h>

#include "lower/special.h"

namespace kn::cuda {

namespace {

/// Of the items sorted: a key that orders as the values do, then the index. In one word where both
/// fit.
void declare_items(HandKernel& kernel, DType dtype, bool largest) {
    const bool wide = size_of(dtype) == 8;
    const std::string key = wide ? "unsigned long long" : "unsigned";
    const std::string top = wide ? "0x8000000000000000ull" : "0x80000000u";
    const std::string value = compute_type(dtype);
    kernel.type("key_t", key);
    std::string ordered;
    if (is_float(dtype)) {
        // NaN above all; both zeros are one number.
        const std::string bits = wide ? "kn_double_to_bits" : "kn_float_to_bits";
        kernel.line(fmt::format(
            "const auto ordered = [](const {} value) -> key_t {{ if (value != value) return "
            "~key_t(0); const key_t bits = value == 0 ? key_t(0) : {}(value); return bits & {} ? "
            "~bits : bits | {}; }};",
            value, bits, top, top));
    } else {
        const std::string flip = is_signed_int(dtype) ? " ^ " + top : "";
        const std::string through = wide ? "(long long)" : "(int)";
        kernel.line(
            fmt::format("const auto ordered = [](const {} value) -> key_t {{ return "
                        "(key_t){}value{}; }};",
                        value, through, flip));
    }
    kernel.line(fmt::format(
        "const auto key_of = [&](const {} value) -> key_t {{ return {}ordered(value); }};", value,
        largest ? "~" : ""));
    if (wide) {
        kernel.line("struct item_t { key_t key; unsigned long long index; };");
        kernel.line("const auto make_item = [](key_t key, unsigned i) { return item_t{key, i}; };");
        kernel.line(
            "const auto less = [](item_t a, item_t b) { return a.key != b.key ? a.key < "
            "b.key : a.index < b.index; };");
        kernel.line("const auto index_of = [](item_t item) { return (unsigned)item.index; };");
    } else {
        kernel.type("item_t", "unsigned long long");
        kernel.line(
            "const auto make_item = [](key_t key, unsigned i) { return (item_t)key << 32 | "
            "i; };");
        kernel.line("const auto less = [](item_t a, item_t b) { return a < b; };");
        kernel.line("const auto index_of = [](item_t item) { return (unsigned)item; };");
    }
    kernel.line("const auto last_item = [&] { return make_item(~key_t(0), ~0u); };");
}

/// A sort of lanes in chunks that fit in a block; what is kept of each is a run.
struct Chunks {
    std::int64_t lanes, length, size, count, kept;
};

Chunks chunks_of(const TensorRef& x, std::int64_t axis, std::int64_t top) {
    Chunks chunks;
    chunks.length = x.shape[static_cast<std::size_t>(axis)];
    chunks.lanes = elements_of(x) / std::max<std::int64_t>(chunks.length, 1);
    const std::int64_t most = size_of(x.dtype) == 8 ? 2048 : 4096;
    chunks.size = 2;
    while (chunks.size < chunks.length && chunks.size < most) chunks.size *= 2;
    chunks.count = ceil_div(chunks.length, chunks.size);
    chunks.kept = std::min(top, chunks.size);
    return chunks;
}

void declare_runs(HandKernel& kernel, const TensorRef& runs, Access access) {
    kernel.pointer("run_words", runs, access);
    kernel.line("item_t* const run_items = (item_t*)run_words;");
}

}  // namespace

void lower_top_k(Placement& placement, const Group& group) {
    const auto& op = *placement.graph().get_if<op::TopK>(group.anchor);
    const TensorRef x = operand_of(placement, op.x);
    const auto values = result_of(placement, group, 0);
    const auto indices = result_of(placement, group, 1);
    const AxisGroups axes = lanes_along(x.shape.size(), op.axis);
    const Chunks chunks = chunks_of(x, op.axis, op.k.value());

    // The k-th item of a lane goes where the results lie.
    const auto declare_results = [&](HandKernel& kernel) {
        kernel.read("x", x, axes);
        if (values) kernel.write("values", *values, axes);
        if (indices) kernel.write("indices", *indices, axes);
        kernel.line(std::string("const auto keep = [&](Int lane, int rank, item_t item) { ") +
                    (values ? "values(lane, rank, x(lane, (Int)index_of(item))); " : "") +
                    (indices ? "indices(lane, rank, (long long)index_of(item)); " : "") + "};");
    };

    HandKernel sort(placement, "sort_rows");
    const std::int64_t rows_per_block = std::max<std::int64_t>(1, 512 / chunks.size);
    declare_items(sort, x.dtype, op.largest);
    sort.constant("kLanes", chunks.lanes);
    sort.constant("kLength", chunks.length);
    sort.constant("kSize", chunks.size);
    sort.constant("kChunks", chunks.count);
    sort.constant("kKept", chunks.kept);
    sort.constant("kRowsPerBlock", rows_per_block);
    const std::int64_t blocks = ceil_div(chunks.lanes * chunks.count, rows_per_block);
    const auto threads =
        static_cast<unsigned>(std::min<std::int64_t>(1024, rows_per_block * chunks.size / 2));
    if (chunks.count == 1) {
        declare_results(sort);
        return sort.add_step(group, "sort", blocks, std::max(threads, 32u));
    }
    const std::int64_t words = size_of(x.dtype) == 8 ? 2 : 1;  // of an item
    const TensorRef runs = placement.scratch(
        DType::U64, {chunks.lanes, chunks.count, chunks.kept, words}, "sorted chunks");
    sort.read("x", x, axes);
    declare_runs(sort, runs, Access::Write);
    sort.line(
        "const auto keep = [&](Int row, int i, item_t item) { run_items[row * kKept + i] = "
        "item; };");
    sort.add_step(group, "sort", blocks, threads, false);

    HandKernel merge(placement, "sort_merge");
    declare_items(merge, x.dtype, op.largest);
    merge.constant("kLanes", chunks.lanes);
    merge.constant("kChunks", chunks.count);
    merge.constant("kKept", chunks.kept);
    merge.constant("kTop", op.k.value());
    declare_runs(merge, runs, Access::Read);
    merge.function("run", "Int row, int i", "run_items[row * kKept + i]");
    declare_results(merge);
    merge.add_step(group, "sort_merge", ceil_div(chunks.lanes * chunks.count * chunks.kept, 256),
                   256);
}

}  // namespace kn::cuda
