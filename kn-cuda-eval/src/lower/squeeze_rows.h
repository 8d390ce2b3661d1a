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
    /// Where the block's threads are at work; the kernel has the arrays rows_a, rows_b, hidden and
    /// heads, and the variable thread; for products, and heads from their sums, the array sums and
    /// the variables warp, row and quad.
    struct Place {
        SqueezeTiles tiles;
        std::int64_t own = 0;     ///< channels of the block
        std::string first;        ///< of its channels; empty: 0
        std::string set;          ///< the block's first image is `set` * tiles.images
        std::size_t outside = 0;  ///< the emitter's scope in front of which loads may stand
    };
    SqueezeRows(Placement& placement, const Group& group, const Squeeze& problem, Code& code,
                KernelOperands& operands, Emitter& emitter, Place place);

    /// The parameter that holds the weights of "producta" or "productb", whose rows are columns.
    std::string weight(const char* product);
    std::int64_t first_pitch() const { return first_.pitch(); }
    std::int64_t second_pitch() const { return second_.pitch(); }
    /// Elements of rows_a and of rows_b.
    static std::int64_t first_elements(const Squeeze& problem, const SqueezeTiles& tiles,
                                       std::int64_t own);
    static std::int64_t second_elements(const Squeeze& problem, const SqueezeTiles& tiles);

    void hold_first();
    void hold_second();
    void clear_ends();
    /// rows_a from the channels' sums, of which `bias` of each channel is left out: write(number, image, channel) writes statements that declare
    /// the float "total" of the block's image and channel, channels behind each other.
    using WriteTotal =
        std::function<void(const std::string&, const std::string&, const std::string&)>;
    void keep_means(const WriteTotal& write, const std::optional<Value>& bias = {});
    void multiply_first(const std::string& store) { first_.multiply(store); }
    /// rows_b from hidden[block][image][column].
    void keep_hidden();
    /// Into sums[unit][image][channel].
    void multiply_second();
    /// heads[head][image][channel] from the sums.
    void find_heads();
    /// heads[image][channel / 2][head][channel % 2] from shares[i][unit], of the channel
    /// kn_channel_of(i) and the image kn_image_of(i % kn_shares_a_block).
    void find_heads_of_shares(std::int64_t shares);
    /// The same where the result is bias_less * scale + shift of an image less `bias`: heads[0] is
    /// the scale, heads[1] what is added.
    void find_scale_of_shares(std::int64_t shares, Value scale, const std::optional<Value>& shift,
                              const std::optional<Value>& bias);

  private:
    const Graph& graph() const { return placement_.graph(); }
    IndexMath& math() { return emitter_.math(); }
    Value role(const char* name) const { return group_.roles.at(name); }
    void each(const std::string& name, std::int64_t count,
              const std::function<void(const std::string&)>& body);
    /// Where `inside` holds, or everywhere; what the body loads is loaded in front of everything.
    void ahead(const std::string& inside, const std::function<void()>& body);
    /// body(image, channel, place in heads) for each share.
    void each_share(std::int64_t shares, std::int64_t numbers,
                    const std::function<void(const std::string&, const std::string&,
                                             const std::string&)>& body);
    /// The second product at a channel is sum(unit).
    void provide_second(const std::string& channel,
                        const std::function<std::string(std::int64_t)>& sum);
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
