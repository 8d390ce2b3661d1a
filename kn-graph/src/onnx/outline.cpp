#include "onnx/outline.h"

#include <optional>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <kn_onnx.pb.h>

namespace kn::onnx {

namespace {

namespace pb = kn::onnx_pb;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

constexpr int large_bytes = 64 * 1024;
// Between large fields lie some hundred bytes.
constexpr int block_bytes = 4096;

constexpr std::uint32_t message_tag(int number) {
    return WireFormatLite::MakeTag(number, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}

/// A field with a length: its tag, its content, its end.
struct Field {
    int begin = 0, content = 0, end = 0;
    int size() const { return end - content; }
    int whole() const { return end - begin; }
};

struct Cut {
    Field tensor, raw;
    int initializer;
};

/// What stands in front of a content of this size.
std::string head(std::uint32_t tag, int size) {
    std::uint8_t bytes[20];
    std::uint8_t* end = CodedOutputStream::WriteVarint32ToArray(tag, bytes);
    end = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(size), end);
    return {bytes, end};
}

/// Looks at fields' heads by the wire format alone. The functions are false for what is malformed,
/// and for what could be cut, but is written or merged in another way than writers do.
class Scanner {
  public:
    explicit Scanner(CodedInputStream& in) : in_(in) {}

    bool model(int size) {
        return each_field(size, [&](std::uint32_t tag, int begin) {
            if (tag != message_tag(pb::ModelProto::kGraphFieldNumber)) return skip(tag);
            // Of several, protobuf makes one, with the initializers of all.
            const auto field = enter(tag, begin, size);
            if (!field || graph.end > 0) return false;
            graph = *field;
            return initializers();
        });
    }

    Field graph;
    std::vector<Cut> cuts;

  private:
    template <class Visit>
    bool each_field(int end, Visit visit) {
        while (in_.CurrentPosition() < end) {
            const int begin = in_.CurrentPosition();
            const std::uint32_t tag = in_.ReadTag();
            if (tag == 0 || !visit(tag, begin)) return false;
        }
        return in_.CurrentPosition() == end;
    }

    bool skip(std::uint32_t tag) { return WireFormatLite::SkipField(&in_, tag); }

    /// Reads the length. Nothing if it leads beyond the end, or takes more bytes than it needs, as
    /// lengths beyond 32 bits do.
    std::optional<Field> enter(std::uint32_t tag, int begin, int end) {
        std::uint32_t size = 0;
        if (!in_.ReadVarint32(&size)) return {};
        const int content = in_.CurrentPosition();
        if (content > end || size > static_cast<std::uint32_t>(end - content)) return {};
        const Field field{begin, content, content + static_cast<int>(size)};
        if (head(tag, field.size()).size() != static_cast<std::size_t>(content - begin)) return {};
        return field;
    }

    bool initializers() {
        int index = 0;
        return each_field(graph.end, [&](std::uint32_t tag, int begin) {
            if (tag != message_tag(pb::GraphProto::kInitializerFieldNumber)) return skip(tag);
            const auto field = enter(tag, begin, graph.end);
            if (!field) return false;
            const int initializer = index++;
            if (field->size() < large_bytes) return in_.Skip(field->size());
            return tensor(*field, initializer);
        });
    }

    bool tensor(const Field& tensor, int initializer) {
        Field raw;
        int count = 0;
        const bool good = each_field(tensor.end, [&](std::uint32_t tag, int begin) {
            if (tag != message_tag(pb::TensorProto::kRawDataFieldNumber)) return skip(tag);
            const auto field = enter(tag, begin, tensor.end);
            if (!field) return false;
            raw = *field;
            count++;
            return in_.Skip(raw.size());
        });
        // Of several, the last one counts: protobuf sees to that.
        if (good && count == 1 && raw.size() >= large_bytes)
            cuts.push_back({tensor, raw, initializer});
        return good;
    }

    CodedInputStream& in_;
};

Extent between(int begin, int end) {
    return {static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)};
}

}  // namespace

Outline whole(const Source& source) { return {{Extent{0, source.size()}}, {}}; }

Outline outline_of(const Source& source) {
    const Outline all = whole(source);
    OutlineStream bytes(source, all);
    google::protobuf::io::CopyingInputStreamAdaptor stream(&bytes, block_bytes);
    CodedInputStream in(&stream);
    Scanner scanner(in);
    const int size = static_cast<int>(source.size());
    if (!scanner.model(size) || scanner.cuts.empty()) return whole(source);

    Outline result;
    const auto initializer = message_tag(pb::GraphProto::kInitializerFieldNumber);
    const auto rest = [](const Cut& cut) { return cut.tensor.size() - cut.raw.whole(); };
    int graph = scanner.graph.size();
    for (const Cut& cut : scanner.cuts)
        graph -=
            cut.tensor.whole() - static_cast<int>(head(initializer, rest(cut)).size()) - rest(cut);
    int at = 0;
    const auto replace_head = [&](std::uint32_t tag, const Field& field, int new_size) {
        result.pieces.emplace_back(between(at, field.begin));
        result.pieces.emplace_back(head(tag, new_size));
        at = field.content;
    };
    replace_head(message_tag(pb::ModelProto::kGraphFieldNumber), scanner.graph, graph);
    for (const Cut& cut : scanner.cuts) {
        replace_head(initializer, cut.tensor, rest(cut));
        result.pieces.emplace_back(between(at, cut.raw.begin));
        at = cut.raw.end;
        result.large.push_back({cut.initializer, between(cut.raw.content, cut.raw.end)});
    }
    result.pieces.emplace_back(between(at, size));
    return result;
}

}  // namespace kn::onnx
