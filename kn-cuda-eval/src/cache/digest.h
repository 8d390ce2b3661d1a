// Names for content: 128 bits that differ where any byte differs, for keys of caches. Not for
// secrets.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace kn::cuda {

/// 32 hexadecimal digits; the division into parts counts ({"ab", "c"} is not {"a", "bc"}).
std::string digest(std::initializer_list<std::string_view> parts);

/// 64 bits over the bytes: a checksum.
std::uint64_t checksum(std::string_view bytes);

}  // namespace kn::cuda
