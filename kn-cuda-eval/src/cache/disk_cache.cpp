#include "cache/disk_cache.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "cache/digest.h"

namespace kn::cuda {

namespace fs = std::filesystem;

namespace {

constexpr char magic[8] = {'k', 'n', 'c', 'a', 'c', 'h', 'e', '1'};
constexpr auto abandoned_after = std::chrono::hours(1);

// In front of every entry; then the key, then the value.
struct Header {
    char magic[8];
    std::uint64_t key_bytes, value_bytes, check;
};

std::uint64_t check_of(std::string_view key, std::string_view value) {
    return checksum(key) * 3 + checksum(value);
}

bool is_partial(const fs::path& path) { return path.extension() == ".part"; }

struct Entry {
    fs::path path;
    fs::file_time_type used;
    std::uint64_t bytes;
};

std::vector<Entry> list_entries(const fs::path& folder) {
    std::vector<Entry> entries;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        std::error_code gone;  // by another process
        const auto bytes = it->file_size(gone);
        const auto used = it->last_write_time(gone);
        if (!gone && it->is_regular_file(gone)) entries.push_back({it->path(), used, bytes});
    }
    return entries;
}

fs::path folder_from_environment() {
    const auto variable = [](const char* name) {
        const char* value = std::getenv(name);
        return fs::path(value ? value : "");
    };
    if (const fs::path own = variable("KN_CACHE_DIR"); !own.empty()) return own;
    if (const fs::path xdg = variable("XDG_CACHE_HOME"); xdg.is_absolute()) return xdg / "kn";
    if (const fs::path home = variable("HOME"); home.is_absolute()) return home / ".cache" / "kn";
    return {};
}

std::uint64_t limit_from_environment() {
    std::uint64_t megabytes = 1024;
    if (const char* text = std::getenv("KN_CACHE_LIMIT_MB"))
        std::from_chars(text, text + std::strlen(text), megabytes);
    return std::min(megabytes, std::uint64_t{1} << 40) << 20;
}

std::unique_ptr<DiskCache> make_shared_cache() {
    const fs::path folder = folder_from_environment();
    const std::uint64_t limit = limit_from_environment();
    if (folder.empty() || limit == 0) return nullptr;
    return std::make_unique<DiskCache>(folder, limit);
}

}  // namespace

DiskCache::DiskCache(fs::path folder, std::uint64_t limit_bytes)
    : folder_(std::move(folder)), limit_bytes_(limit_bytes) {}

DiskCache* DiskCache::shared() {
    static const std::unique_ptr<DiskCache> cache = make_shared_cache();
    return cache.get();
}

fs::path DiskCache::path_of(std::string_view kind, std::string_view key) const {
    return folder_ / (digest({kind, key}) + "." + std::string(kind));
}

std::optional<std::string> DiskCache::get(std::string_view kind, std::string_view key) const {
    const fs::path path = path_of(kind, key);
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return std::nullopt;
    const auto file_bytes = static_cast<std::uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
    file.seekg(0);
    Header header{};
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    if (!file || std::memcmp(header.magic, magic, sizeof magic) != 0 ||
        header.key_bytes != key.size() || header.value_bytes > file_bytes ||
        sizeof header + header.key_bytes + header.value_bytes != file_bytes)
        return std::nullopt;
    std::string stored_key(header.key_bytes, '\0'), value(header.value_bytes, '\0');
    file.read(stored_key.data(), static_cast<std::streamsize>(stored_key.size()));
    file.read(value.data(), static_cast<std::streamsize>(value.size()));
    if (!file || stored_key != key || header.check != check_of(key, value)) return std::nullopt;
    // The time of last use; an hour more or less does not matter.
    std::error_code ignored;
    const auto now = fs::file_time_type::clock::now();
    if (now - fs::last_write_time(path, ignored) > std::chrono::hours(1))
        fs::last_write_time(path, now, ignored);
    return value;
}

void DiskCache::put(std::string_view kind, std::string_view key, std::string_view value) {
    const Header header = {
        {'k', 'n', 'c', 'a', 'c', 'h', 'e', '1'}, key.size(), value.size(), check_of(key, value)};
    const std::uint64_t bytes = sizeof header + key.size() + value.size();
    if (bytes > limit_bytes_) return;
    const std::lock_guard lock(mutex_);
    std::error_code error;
    if (fs::create_directories(folder_, error); error) return;
    make_room(bytes);

    static std::atomic<unsigned> counter{0};
    fs::path path = path_of(kind, key), partial = path;
    partial += "." + std::to_string(::getpid()) + "." + std::to_string(counter++) + ".part";
    bool written = false;
    {
        std::ofstream file(partial, std::ios::binary);
        file.write(reinterpret_cast<const char*>(&header), sizeof header);
        file.write(key.data(), static_cast<std::streamsize>(key.size()));
        file.write(value.data(), static_cast<std::streamsize>(value.size()));
        file.close();
        written = file.good();
    }
    if (written) fs::rename(partial, path, error);
    if (!written || error) {
        fs::remove(partial, error);
        return;
    }
    used_bytes_ += bytes;
}

void DiskCache::make_room(std::uint64_t wanted) {
    if (measured_ && used_bytes_ + wanted <= limit_bytes_) return;
    std::vector<Entry> entries = list_entries(folder_);
    used_bytes_ = 0;
    measured_ = true;
    for (const Entry& entry : entries) used_bytes_ += entry.bytes;
    std::error_code ignored;
    const auto now = fs::file_time_type::clock::now();
    for (const Entry& entry : entries)
        if (is_partial(entry.path) && now - entry.used > abandoned_after)
            fs::remove(entry.path, ignored);
    if (used_bytes_ + wanted <= limit_bytes_) return;
    // Somewhat more than is needed, so that not every entry pays for a listing.
    const std::uint64_t target = (limit_bytes_ - wanted) / 8 * 7;
    std::ranges::sort(entries, {}, &Entry::used);
    for (const Entry& entry : entries) {
        if (used_bytes_ <= target) break;
        if (is_partial(entry.path)) continue;
        fs::remove(entry.path, ignored);
        used_bytes_ -= entry.bytes;
    }
}

}  // namespace kn::cuda
