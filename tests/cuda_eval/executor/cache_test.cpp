// The cache on disk: what is stored comes back, what is damaged does not, and processes do not
// disturb each other.
#include "cache/disk_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <deque>
#include <fstream>

#include "cache/digest.h"
#include "hand_plans.h"
#include "lower/library.h"

namespace kn::cuda {
namespace {

namespace fs = std::filesystem;

class DiskCacheTest : public testing::Test {
  protected:
    DiskCacheTest()
        : folder_(fs::temp_directory_path() /
                  ("kn-cache-test-" + std::to_string(::getpid()) + "-" +
                   testing::UnitTest::GetInstance()->current_test_info()->name())) {
        fs::remove_all(folder_);
    }
    ~DiskCacheTest() override {
        std::error_code ignored;
        fs::permissions(folder_, fs::perms::owner_all, ignored);
        fs::remove_all(folder_, ignored);
    }
    fs::path only_entry() const {
        fs::path found;
        for (const auto& entry : fs::directory_iterator(folder_)) {
            EXPECT_TRUE(found.empty()) << entry.path();
            found = entry.path();
        }
        return found;
    }
    std::uint64_t bytes() const {
        std::uint64_t sum = 0;
        for (const auto& entry : fs::directory_iterator(folder_)) sum += entry.file_size();
        return sum;
    }

    fs::path folder_;
    static constexpr std::uint64_t large = 1 << 30;
};

TEST(Digest, TellsPartsApart) {
    EXPECT_EQ(digest({"ab", "c"}), digest({"ab", "c"}));
    EXPECT_NE(digest({"ab", "c"}), digest({"a", "bc"}));
    EXPECT_NE(digest({"abc"}), digest({"abc", ""}));
    EXPECT_EQ(digest({}).size(), 32u);
    // Each flipped bit shows.
    std::string text(100, 'x');
    const std::string before = digest({text});
    for (std::size_t bit = 0; bit < 800; bit++) {
        text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
        EXPECT_NE(digest({text}), before) << "bit " << bit;
        EXPECT_NE(checksum(text), checksum(std::string(100, 'x'))) << "bit " << bit;
        text[bit / 8] = 'x';
    }
}

TEST_F(DiskCacheTest, GivesBackWhatWasStored) {
    DiskCache cache(folder_, large);
    EXPECT_FALSE(cache.get("cubin", "key"));
    const std::string binary("\0\1\2\n\xff", 5);
    cache.put("cubin", "key", binary);
    cache.put("cubin", "empty", "");
    EXPECT_EQ(cache.get("cubin", "key"), binary);
    EXPECT_EQ(cache.get("cubin", "empty"), "");
    EXPECT_FALSE(cache.get("plan", "key"));
    EXPECT_FALSE(cache.get("cubin", "key2"));
    cache.put("cubin", "key", "new");
    EXPECT_EQ(DiskCache(folder_, large).get("cubin", "key"), "new");
}

TEST_F(DiskCacheTest, IgnoresDamagedEntriesAndReplacesThem) {
    DiskCache cache(folder_, large);
    const std::string value(1000, 'v');
    cache.put("cubin", "key", value);
    const fs::path path = only_entry();
    const auto size = fs::file_size(path);
    for (std::uintmax_t at = 0; at < size; at += 7) {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(static_cast<std::streamoff>(at));
        const char old = static_cast<char>(file.get());
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(old ^ 0x10));
        file.close();
        EXPECT_FALSE(cache.get("cubin", "key")) << "byte " << at;
        cache.put("cubin", "key", value);
        ASSERT_EQ(cache.get("cubin", "key"), value);
    }
    for (const std::uintmax_t left : {std::uintmax_t{0}, std::uintmax_t{10}, size - 1}) {
        fs::resize_file(path, left);
        EXPECT_FALSE(cache.get("cubin", "key")) << left << " bytes left";
        cache.put("cubin", "key", value);
    }
    fs::resize_file(path, size + 1);
    EXPECT_FALSE(cache.get("cubin", "key"));
}

TEST_F(DiskCacheTest, ForgetsTheOldestAboveItsLimit) {
    DiskCache cache(folder_, 20000);
    const std::string value(1000, 'v');
    const auto now = fs::file_time_type::clock::now();
    for (int i = 0; i < 40; i++) {
        cache.put("cubin", std::to_string(i), value);
        EXPECT_LE(bytes(), 20000u);
        // File systems' clocks are coarse: say which is older.
        for (const auto& entry : fs::directory_iterator(folder_))
            if (fs::last_write_time(entry) > now - std::chrono::hours(1))
                fs::last_write_time(entry, now - std::chrono::hours(1000 - i));
    }
    EXPECT_FALSE(cache.get("cubin", "0"));
    EXPECT_TRUE(cache.get("cubin", "39"));
    cache.put("cubin", "too large", std::string(30000, 'x'));
    EXPECT_FALSE(cache.get("cubin", "too large"));
    EXPECT_TRUE(cache.get("cubin", "39"));
}

TEST_F(DiskCacheTest, RemovesWhatACrashedProcessLeft) {
    DiskCache(folder_, large).put("cubin", "a", "x");
    const fs::path old = folder_ / "abandoned.part", fresh = folder_ / "being_written.part";
    std::ofstream(old) << "x";
    std::ofstream(fresh) << "x";
    fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
    DiskCache(folder_, large).put("cubin", "b", "x");
    EXPECT_FALSE(fs::exists(old));
    EXPECT_TRUE(fs::exists(fresh));
}

// As one process after the other would ask.
TEST_F(DiskCacheTest, KeepsWhatCudnnSupports) {
    std::deque<DiskCache> processes;
    const auto ask = [&](std::int64_t channels, std::size_t expected_asked) {
        DiskCache& cache = processes.emplace_back(folder_, large);
        const auto tensor = [](Ints dims) { return channels_last(DataType::F16, std::move(dims)); };
        const ConvDesc conv{.x = tensor({1, 64, 8, 8}),
                            .w = tensor({64, channels, 1, 1}),
                            .y = tensor({1, 64, 8, 8})};
        const CudnnAnswers before = cudnn_answers();
        const CudnnSupport support = cudnn_support(conv, test::h200(), 1 << 20, true, &cache);
        EXPECT_EQ(cudnn_support(conv, test::h200(), 1 << 20, true, &cache).reason, support.reason);
        EXPECT_EQ(cudnn_answers().asked - before.asked, expected_asked);
        EXPECT_EQ(cudnn_answers().from_cache - before.from_cache, 1 - expected_asked);
        return support;
    };
    const CudnnSupport yes = ask(64, 1), yes_again = ask(64, 0);
    EXPECT_TRUE(yes.supported);
    EXPECT_TRUE(yes_again.supported);
    EXPECT_EQ(yes_again.workspace_bytes, yes.workspace_bytes);
    fs::resize_file(only_entry(), fs::file_size(only_entry()) - 1);
    EXPECT_TRUE(ask(64, 1).supported);
    EXPECT_TRUE(ask(64, 0).supported);
    const CudnnSupport no = ask(63, 1), no_again = ask(63, 0);
    EXPECT_FALSE(no.supported);
    EXPECT_FALSE(no_again.supported);
    EXPECT_EQ(no_again.reason, no.reason);
    EXPECT_FALSE(no.reason.empty());
}

TEST_F(DiskCacheTest, WorksWithoutAFolder) {
    std::ofstream(folder_) << "a file where the folder should be";
    DiskCache blocked(folder_, large);
    blocked.put("cubin", "key", "value");
    EXPECT_FALSE(blocked.get("cubin", "key"));
    fs::remove(folder_);
    DiskCache device("/dev/full/kn", large);
    device.put("cubin", "key", "value");
    EXPECT_FALSE(device.get("cubin", "key"));
    if (::geteuid() == 0) return;  // who may write everywhere
    fs::create_directories(folder_);
    fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
    DiskCache unwritable(folder_, large);
    unwritable.put("cubin", "key", "value");
    EXPECT_FALSE(unwritable.get("cubin", "key"));
}

// As on a full disk: what is written stops half way. In a process of its own, which may write files
// of 4000 bytes only.
TEST_F(DiskCacheTest, KeepsNothingHalfWritten) {
    DiskCache(folder_, large).put("cubin", "old", "value");
    const pid_t child = ::fork();
    if (child == 0) {
        const rlimit few{4000, 4000};
        ::setrlimit(RLIMIT_FSIZE, &few);
        ::signal(SIGXFSZ, SIG_IGN);
        DiskCache cache(folder_, large);
        cache.put("cubin", "old", std::string(100000, 'x'));
        cache.put("cubin", "new", std::string(100000, 'x'));
        cache.put("cubin", "small", "fits");
        const bool good = cache.get("cubin", "old") == "value" && !cache.get("cubin", "new") &&
                          cache.get("cubin", "small") == "fits";
        ::_exit(good ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 2);
}

// Processes that write, read and evict the same few keys: each sees whole values or none.
TEST_F(DiskCacheTest, IsSharedByProcesses) {
    constexpr int processes = 6;
    std::vector<pid_t> children;
    for (int p = 0; p < processes; p++) {
        const pid_t child = ::fork();
        if (child != 0) {
            children.push_back(child);
            continue;
        }
        DiskCache cache(folder_, 60000);
        bool good = true;
        for (int i = 0; i < 200; i++) {
            const std::string key = std::to_string(i * 7 % 12);
            const std::string value(4000 + 100 * static_cast<std::size_t>(i % 12), key[0]);
            cache.put("cubin", key, value);
            if (const auto found = cache.get("cubin", key))
                good &= found->size() >= 4000 && found->find_first_not_of(key[0]) == found->npos;
        }
        ::_exit(good ? 0 : 1);
    }
    for (const pid_t child : children) {
        int status = -1;
        ::waitpid(child, &status, 0);
        EXPECT_EQ(status, 0);
    }
    for (const auto& entry : fs::directory_iterator(folder_))
        EXPECT_EQ(entry.path().extension(), ".cubin") << entry.path();
}

}  // namespace
}  // namespace kn::cuda
