#include <kn/graph/npy.h>

#include <unistd.h>

#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>

#include <kn/graph/error.h>

namespace kn {

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& reason) {
    throw GraphError(printable(path.string()) + ": " + reason);
}

struct Code {
    const char* text;
    DType dtype;
};
constexpr Code codes[] = {
    {"|b1", DType::Bool}, {"|i1", DType::I8},  {"<i2", DType::I16}, {"<i4", DType::I32},
    {"<i8", DType::I64},  {"|u1", DType::U8},  {"<u2", DType::U16}, {"<u4", DType::U32},
    {"<u8", DType::U64},  {"<f2", DType::F16}, {"<f4", DType::F32}, {"<f8", DType::F64},
};

// What follows `key` in the header's Python dictionary.
std::string_view after(std::string_view header, std::string_view key,
                       const std::filesystem::path& path) {
    const std::size_t at = header.find(key);
    if (at == std::string_view::npos) fail(path, "its .npy header has no " + std::string(key));
    std::string_view rest = header.substr(at + key.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(": "), rest.size()));
    return rest;
}

DType parse_dtype(std::string_view rest, const std::filesystem::path& path) {
    const std::string text(rest.substr(1, std::min<std::size_t>(rest.find(rest[0], 1), 16) - 1));
    for (const Code& code : codes)
        if (text == code.text ||
            (text.size() == 3 && text.substr(1) == std::string(code.text + 1) && text[0] != '>'))
            return code.dtype;
    fail(path, "elements of type '" + printable(text) + "' are not supported");
}

Ints parse_shape(std::string_view rest, const std::filesystem::path& path) {
    const std::size_t end = rest.find(')');
    if (rest.empty() || rest[0] != '(' || end == std::string_view::npos)
        fail(path, "its .npy header has no shape");
    Ints shape;
    std::string_view list = rest.substr(1, end - 1);
    while (true) {
        list.remove_prefix(std::min(list.find_first_not_of(" ,"), list.size()));
        if (list.empty()) return shape;
        std::int64_t dim = -1;
        const auto [next, error] = std::from_chars(list.data(), list.data() + list.size(), dim);
        if (error != std::errc() || dim < 0) fail(path, "its .npy header has a broken shape");
        list.remove_prefix(static_cast<std::size_t>(next - list.data()));
        shape.push_back(dim);
    }
}

// Column-major elements in row-major order.
Tensor transposed(const Tensor& source, const Ints& shape) {
    Tensor out(source.dtype(), shape);
    const std::size_t bytes = size_of(source.dtype());
    Ints at(shape.size(), 0);
    const std::byte* from = source.bytes().data();
    std::byte* to = out.mutable_bytes().data();
    for (std::int64_t i = 0; i < out.size(); i++) {
        std::int64_t index = 0;
        for (std::size_t axis = shape.size(); axis-- > 0;) index = index * shape[axis] + at[axis];
        std::memcpy(to + static_cast<std::size_t>(i) * bytes,
                    from + static_cast<std::size_t>(index) * bytes, bytes);
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            if (++at[axis] < shape[axis]) break;
            at[axis] = 0;
        }
    }
    return out;
}

}  // namespace

Tensor read_npy(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file || std::filesystem::is_directory(path)) fail(path, "cannot be read");
    const auto file_size = static_cast<std::uint64_t>(file.tellg());
    file.seekg(0);
    unsigned char start[12] = {};
    file.read(reinterpret_cast<char*>(start), 10);
    if (!file || std::memcmp(start, "\x93NUMPY", 6) != 0) fail(path, "is not a .npy file");
    std::uint64_t header_size = start[8] + 256u * start[9];
    if (start[6] >= 2) {
        file.read(reinterpret_cast<char*>(start + 10), 2);
        header_size += (std::uint64_t{start[10]} << 16) + (std::uint64_t{start[11]} << 24);
    }
    const auto begin = static_cast<std::uint64_t>(file.tellg());
    if (!file || header_size > file_size - begin) fail(path, "ends within its header");
    std::string header(header_size, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header_size));
    const std::string_view descr = after(header, "'descr'", path);
    if (descr.empty() || (descr[0] != '\'' && descr[0] != '"'))
        fail(path, "structured elements are not supported");
    const DType dtype = parse_dtype(descr, path);
    const Ints shape = parse_shape(after(header, "'shape'", path), path);
    const bool fortran = after(header, "'fortran_order'", path).starts_with("True");
    Ints with_bytes = shape;
    with_bytes.push_back(static_cast<std::int64_t>(size_of(dtype)));
    if (static_cast<std::uint64_t>(checked_size(with_bytes)) > file_size - begin - header_size)
        fail(path, "holds fewer elements than its shape " + Shape::of(shape).to_string() + " says");
    Tensor out(dtype, shape);
    file.read(reinterpret_cast<char*>(out.mutable_bytes().data()),
              static_cast<std::streamsize>(out.byte_size()));
    if (!file) fail(path, "cannot be read to its end");
    return fortran && shape.size() > 1 ? transposed(out, shape) : out;
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
    if (tensor.dtype() == DType::BF16) return write_npy(path, tensor.cast(DType::F32));
    std::string shape;
    for (const std::int64_t dim : tensor.shape()) shape += std::to_string(dim) + ", ";
    if (tensor.rank() > 1) shape.resize(shape.size() - 2);
    std::string header;
    for (const Code& code : codes)
        if (code.dtype == tensor.dtype())
            header = std::string("{'descr': '") + code.text +
                     "', 'fortran_order': False, 'shape': (" + shape + "), }";
    header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
    header += '\n';
    std::filesystem::path partial = path;
    partial += "." + std::to_string(::getpid()) + ".part";
    std::error_code error;
    {
        std::ofstream file(partial, std::ios::binary);
        file.write("\x93NUMPY\x01\x00", 8);
        file.put(static_cast<char>(header.size() % 256))
            .put(static_cast<char>(header.size() / 256));
        file << header;
        file.write(reinterpret_cast<const char*>(tensor.bytes().data()),
                   static_cast<std::streamsize>(tensor.byte_size()));
        file.flush();
        if (!file) {
            std::filesystem::remove(partial, error);
            fail(path, "cannot be written");
        }
    }
    std::filesystem::rename(partial, path, error);
    if (error) {
        std::filesystem::remove(partial, error);
        fail(path, "cannot be written");
    }
}

}  // namespace kn
