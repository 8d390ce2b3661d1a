// Squeeze and excite: an image scaled (and shifted) by what two small products make of its mean, in
// one kernel.
//
// A cluster of blocks takes some images, each block its part of the channels: it holds these in
// registers from the mean to the result. The blocks add up their parts of the first product through
// distributed shared memory; of the second each computes the columns of its own channels.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/group.h"

namespace kn::cuda {

/// A product of rows [N, C] by a weight: a MatMul, or a Conv over images of one pixel.
struct SmallProduct {
    Value rows, weight;
    std::int64_t terms = 0, columns = 0;
};
std::optional<SmallProduct> small_product(const Graph& graph, Value value);

struct SqueezeTiles {
    int images = 1;     ///< that a cluster takes
    int blocks = 1;     ///< of a cluster
    int threads = 256;  ///< of a block
    bool operator==(const SqueezeTiles&) const = default;
};

struct Squeeze {
    DType dtype = DType::F16;  ///< of the image and of the products
    std::int64_t images = 0, channels = 0, positions = 0;
    std::int64_t hidden = 0;           ///< columns of the first product
    std::vector<std::int64_t> shifts;  ///< column - channel, where the second product is read

    int lanes() const;  ///< elements of 16 bytes
    /// Vectors of so many that a thread has of the image, and of the weights.
    std::int64_t held(const SqueezeTiles& tiles) const;
    std::int64_t held_weights(const SqueezeTiles& tiles) const;
    /// Why no tiles, or these, can do it; as the end of a sentence.
    std::optional<std::string> why_not() const;
    std::optional<std::string> why_not(const SqueezeTiles& tiles) const;
    std::int64_t flops() const;
    /// Microseconds of a kernel of its own or of steps apart, whichever a model expects to be less.
    double time_alone(int sm_count) const;
    /// Why separate steps are better.
    std::optional<std::string> why_apart(int sm_count) const;
    std::vector<SqueezeTiles> sensible_tiles(int sm_count) const;  ///< the fastest first
};

/// What the kernel computes from, given the values that play its parts: "squeezed" (the image),
/// "mean", "producta", "productb", "heada", "headb", ... (what the result reads for each channel).
Squeeze squeeze_of(const Graph& graph, const Group& group);
std::vector<Value> heads_of(const Group& group);

/// Places behind its channel of what `head` reads of the second product; none if it reads others.
std::optional<std::vector<std::int64_t>> shifts_of(const Graph& graph, Value head, Value product);

std::string to_string(const SqueezeTiles& tiles);
/// For measurements and tests: tiles that this thread's plans take whatever the model says.
std::optional<SqueezeTiles>& forced_squeeze_tiles();

}  // namespace kn::cuda
