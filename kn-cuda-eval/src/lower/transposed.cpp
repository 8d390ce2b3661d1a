#include <algorithm>

#include <fmt/core.h>

#include "lower/elements.h"
#include "planner/ceil_div.h"

namespace kn::cuda {

namespace {

constexpr std::int64_t kTile = 32;
constexpr std::int64_t kThreadRows = 8;
constexpr std::int64_t kFewest = 1 << 14;  // elements; smaller tensors sit in the cache

/// Axes of the written tensor that both sides step through as one, in the order of its memory.
struct Run {
    Ints axes, extents;
    std::int64_t extent = 1;
    std::int64_t read_stride = 0;
};

/// How the largest tensor that is read steps along the written one's axes, given in memory order.
std::optional<std::vector<Run>> runs_of(Placement& placement, const TensorRef& to,
                                        const std::vector<Value>& computed,
                                        const ElementText& element) {
    Code code;
    KernelOperands operands;
    Emitter emitter(placement, code, operands);
    emitter.computes(computed);
    Index index(to.shape.size());
    std::vector<std::string> names(to.shape.size());
    for (std::size_t i = 0; i < index.size(); ++i) {
        names[i] = fmt::format("a{}", i);
        index[i] = emitter.math().variable(names[i], to.shape[i]);
    }
    element(emitter, index);
    const Emitter::Load* largest = nullptr;
    for (const Emitter::Load& load : emitter.loads())
        if (!largest || load.elements > largest->elements) largest = &load;
    if (!largest || largest->elements * 2 < checked_size(to.shape)) return std::nullopt;
    std::vector<Run> runs;
    for (const std::int64_t axis : memory_order(to)) {
        const auto i = static_cast<std::size_t>(axis);
        if (to.shape[i] == 1) continue;
        const auto part = emitter.math().part(largest->offset, names[i]);
        if (!part) return std::nullopt;
        if (!runs.empty() && runs.back().read_stride == part->factor * to.shape[i]) {
            runs.back().axes.push_back(axis);
            runs.back().extents.push_back(to.shape[i]);
            runs.back().extent *= to.shape[i];
            runs.back().read_stride = part->factor;
        } else {
            runs.push_back({{axis}, {to.shape[i]}, to.shape[i], part->factor});
        }
    }
    return runs;
}

}  // namespace

std::optional<KernelDraft> draft_transposed(Placement& placement, const TensorRef& to,
                                            const std::vector<Value>& computed,
                                            const ElementText& element) {
    if (checked_size(to.shape) < kFewest || to.shape.size() < 2) return std::nullopt;
    const auto found = runs_of(placement, to, computed, element);
    if (!found || found->size() < 2) return std::nullopt;
    const std::vector<Run>& runs = *found;
    const std::size_t written = runs.size() - 1;
    std::size_t read = 0;
    while (read < runs.size() && runs[read].read_stride != 1) ++read;
    if (read >= written || runs[read].extent < kTile / 2 || runs[written].extent < kTile / 2)
        return std::nullopt;

    KernelDraft draft;
    Code code;
    Emitter emitter(placement, code, draft.operands);
    IndexMath& math = emitter.math();
    emitter.computes(computed);
    const std::int64_t across = ceil_div(runs[written].extent, kTile);
    const std::int64_t down = ceil_div(runs[read].extent, kTile);
    Ints outer_extents;
    for (std::size_t i = 0; i < written; ++i)
        if (i != read) outer_extents.push_back(runs[i].extent);
    const std::int64_t outer = checked_size(outer_extents);
    const char* type = math.type();
    code.line(fmt::format("const {} tile = blockIdx.x;", type));
    Ints tile_extents = outer_extents;
    tile_extents.push_back(down);
    tile_extents.push_back(across);
    const Index tiles = math.split(math.variable("tile", outer * down * across), tile_extents);
    const std::string read_tile = tiles[tiles.size() - 2], written_tile = tiles.back();
    code.line(fmt::format("KN_SHARED {} tile_of[{}][{}];", c_type(to.dtype), kTile, kTile + 1));
    const auto index_at = [&](const std::string& w, const std::string& r) {
        Index index(to.shape.size(), "0");
        std::size_t next = 0;
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const std::string number = i == written ? w : i == read ? r : tiles[next++];
            const Index digits = math.split(number, runs[i].extents);
            for (std::size_t k = 0; k < digits.size(); ++k)
                index[static_cast<std::size_t>(runs[i].axes[k])] = digits[k];
        }
        return index;
    };
    // In the order of reading, then in that of writing.
    for (const bool writing : {false, true}) {
        code.open(fmt::format("KN_UNROLL for (int r = 0; r < {}; r += {})", kTile, kThreadRows));
        emitter.push_scope();
        const std::string fast = "threadIdx.x", slow = "(threadIdx.y + r)";
        const std::string w = code.fresh("w"), r = code.fresh("r");
        code.line(fmt::format("const {} {} = ({}) * {} + {};", type, w, written_tile, kTile,
                              writing ? fast : slow));
        code.line(fmt::format("const {} {} = ({}) * {} + {};", type, r, read_tile, kTile,
                              writing ? slow : fast));
        math.variable(w, runs[written].extent);
        math.variable(r, runs[read].extent);
        code.open(
            fmt::format("if ({} < {} && {} < {})", w, runs[written].extent, r, runs[read].extent));
        emitter.push_scope();
        const Index index = index_at(w, r);
        if (writing) {
            const std::string x = emitter.define(
                compute_type(to.dtype), fmt::format("kn_widen(tile_of[{}][{}])", fast, slow));
            emitter.store(to, index, x);
        } else {
            const std::string x = element(emitter, index);
            code.line(fmt::format(
                "tile_of[{}][{}] = {};", slow, fast,
                is_half(to.dtype) ? fmt::format("kn_cast<{}>({})", c_type(to.dtype), x) : x));
        }
        emitter.pop_scope();
        code.close();
        emitter.pop_scope();
        code.close();
        if (!writing) code.line("kn_sync();");
    }
    draft.name = "transpose";
    draft.body = code.text();
    draft.grid = {static_cast<unsigned>(outer * down * across)};
    draft.block = {static_cast<unsigned>(kTile), static_cast<unsigned>(kThreadRows)};
    return draft;
}

}  // namespace kn::cuda
