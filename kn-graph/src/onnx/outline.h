// A serialized model without the raw data of its large initializers, which protobuf would copy to
// memory of its own, piece by piece.
//
//     const Outline outline = outline_of(source);
//     OutlineStream stream(source, outline);      // protobuf parses this
//     read_large_data(source, outline.large, model.graph());
#pragma once

#include <string>
#include <variant>
#include <vector>

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "onnx/source.h"

namespace kn::onnx {

struct Extent {
    std::size_t offset, size;
};

/// The raw data of graph.initializer(`initializer`), which has none in the outline.
struct LargeField {
    int initializer;
    Extent bytes;
};

struct Outline {
    /// What to parse: stretches of the source, and fields' heads with other lengths than there.
    std::vector<std::variant<Extent, std::string>> pieces;
    std::vector<LargeField> large;
};

/// All of the source, for other messages than models.
Outline whole(const Source& source);
/// Without large data also for whatever is no model as writers write them: parsing says what is
/// wrong.
Outline outline_of(const Source& source);

class OutlineStream : public google::protobuf::io::CopyingInputStream {
  public:
    /// Both must outlive the stream.
    OutlineStream(const Source& source, const Outline& outline)
        : source_(source), pieces_(outline.pieces) {}
    int Read(void* buffer, int size) override;
    int Skip(int count) override;

  private:
    std::size_t left() const;
    std::size_t copy(std::byte* to, std::size_t count) const;
    int advance(std::byte* to, int count);

    const Source& source_;
    const std::vector<std::variant<Extent, std::string>>& pieces_;
    std::size_t piece_ = 0, at_ = 0;
};

}  // namespace kn::onnx
