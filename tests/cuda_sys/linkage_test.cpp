#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace fs = std::filesystem;

// A program that needs libcuda to start would not run on machines without a driver, and the other
// libraries are opened when they are needed.
TEST(Linkage, NoBinaryNeedsMoreThanCudart) {
    for (const auto& entry :
         fs::directory_iterator(fs::read_symlink("/proc/self/exe").parent_path())) {
        if (!entry.is_regular_file() || access(entry.path().c_str(), X_OK) != 0) continue;
        std::string command = "ldd '" + entry.path().string() + "' 2>&1", output;
        FILE* pipe = popen(command.c_str(), "r");
        ASSERT_NE(pipe, nullptr);
        char chunk[4096];
        while (std::size_t n = fread(chunk, 1, sizeof chunk, pipe)) output.append(chunk, n);
        pclose(pipe);
        for (const char* library : {"libcuda.so", "libcudnn", "libcublas", "libnvrtc"})
            EXPECT_EQ(output.find(library), std::string::npos) << command << "\n" << output;
    }
}
