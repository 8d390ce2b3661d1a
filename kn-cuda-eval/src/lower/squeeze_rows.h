// What lies between the mean of an image and the values that change it, as text of a kernel: rows
// of both products in shared memory, and what the result reads of the second for each channel.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "codegen/emit.h"
#include "lower/squeeze_product.h"

namespace kn::cuda {

class SqueezeRows {
  public:
    /// Where the block's threads are at work; the kernel has the arrays rows_a, rows_b, hidden, sums
    /// and heads, and the variables thread, warp, row and quad.
    struct Place {
        SqueezeTiles tiles;
        std::int64_t own = 0;     ///< channels of the block
        std::string first;        ///< of its channels; empty: 0
        std::string set;          ///< the block's first image is `set` * tiles.images
        std::size_t outside = 0;  ///< the emitter's scope in front of which loads may stand
        std::string sync = "kn_sync();";
    };
    SqueezeRows(Placement& placement, const Group& group, const Squeeze& problem, Code& code,
                KernelOperands& operands, Emitter& emitter, Place place);

    /// Elements of rows_a and of rows_b.
    static std::int64_t first_elements(const Squeeze& problem, const SqueezeTiles& tiles,
                                       std::int64_t own);
    static std::int64_t second_elements(const Squeeze& problem, const SqueezeTiles& tiles);

    void hold_first();
    void hold_second();
    void clear_ends();
    /// rows_a from the channels' sums: write(number, image, channel) writes statements that declare
    /// the float "total" of the block's image and channel, channels behind each other.
    using WriteTotal =
        std::function<void(const std::string&, const std::string&, const std::string&)>;
    void keep_means(const WriteTotal& write);
    void multiply_first(const std::string& store) { first_.multiply(store); }
    /// rows_b from hidden[block][image][column].
    void keep_hidden();
    /// Into sums[unit][image][channel].
    void multiply_second();
    /// heads[head][image][channel] from the sums.
    void find_heads();

  private:
    const Graph& graph() const { return placement_.graph(); }
    IndexMath& math() { return emitter_.math(); }
    Value role(const char* name) const { return group_.roles.at(name); }
    std::string weight(const char* product);
    void each(const std::string& name, std::int64_t count,
              const std::function<void(const std::string&)>& body);
    Index index_of(Value value, const std::string& image, const std::string& column);
    std::string channel(const std::string& own);

    Placement& placement_;
    const Group& group_;
    const Squeeze& problem_;
    Code& code_;
    KernelOperands& operands_;
    Emitter& emitter_;
    Place place_;
    std::vector<Value> heads_;
    SqueezeProduct first_, second_;
};

}  // namespace kn::cuda
