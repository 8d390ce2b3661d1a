// What was expensive to make, kept on disk between processes: compiled kernels, tuned algorithms,
// library plans.
//
//     DiskCache* cache = DiskCache::shared();        // null: there is none
//     if (cache) if (auto cubin = cache->get("cubin", key)) ...
//
// The folder is KN_CACHE_DIR, else $XDG_CACHE_HOME/kn, else ~/.cache/kn; KN_CACHE_LIMIT_MB (1024)
// bounds its size, 0 turns it off. One file an entry, written beside its place and renamed into it,
// so that any number of processes may share a folder: a reader sees a whole entry or none. What is
// damaged, unreadable or of another key counts as absent, and writing is best effort: nothing here
// throws because of the file system.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace kn::cuda {

class DiskCache {
  public:
    DiskCache(std::filesystem::path folder, std::uint64_t limit_bytes);

    /// The cache that the environment asks for, made at the first call; null where it asks for none
    /// or names no folder.
    static DiskCache* shared();

    /// The value stored under `kind` (a short word) and `key` (any text).
    std::optional<std::string> get(std::string_view kind, std::string_view key) const;
    /// Stores or replaces. Above the limit the entries unused for longest go.
    void put(std::string_view kind, std::string_view key, std::string_view value);

    const std::filesystem::path& folder() const { return folder_; }

  private:
    std::filesystem::path path_of(std::string_view kind, std::string_view key) const;
    void make_room(std::uint64_t wanted);

    std::filesystem::path folder_;
    std::uint64_t limit_bytes_;
    std::mutex mutex_;
    std::uint64_t used_bytes_ = 0;  // an estimate: other processes write too
    bool measured_ = false;
};

}  // namespace kn::cuda
