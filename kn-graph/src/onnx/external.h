// External data: files beside a model, mapped into memory, never outside the allowed folders.
//
//     ExternalFiles files("models/net", {});
//     ExternalBytes bytes = files.read("weights.bin", 4096, 1024);
#pragma once

#include <filesystem>
#include <map>

#include <kn/graph/onnx.h>

namespace kn::onnx {

class ExternalFiles {
  public:
    ExternalFiles(const std::filesystem::path& folder,
                  const std::vector<std::filesystem::path>& roots);

    /// The bytes, mapped and not yet touched. Throws Failure: a location that is absolute, has
    /// `..`, leaves the folders by a symbolic link or is no regular file; bytes beyond the file's
    /// end.
    ExternalBytes read(const std::string& location, std::uint64_t offset, std::uint64_t length);

  private:
    class Mapping;
    std::shared_ptr<const Mapping> open(const std::string& location) const;

    std::filesystem::path folder_;
    std::vector<std::filesystem::path> roots_;  // canonical; the folder itself is the first
    std::map<std::string, std::shared_ptr<const Mapping>> open_;
};

}  // namespace kn::onnx
