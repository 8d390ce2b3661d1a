// Where the setup went, and the age of this process.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace kn::tool {

inline double ms_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

/// A stretch of the setup; others may overlap it.
struct SetupLine {
    std::string name;
    std::chrono::steady_clock::time_point begin;
    double ms = 0;
    bool part = false;  // of the line in front of it
};
/// A table of them, with begins counted from the process's start.
void print_setup(const std::vector<SetupLine>& lines);

/// Milliseconds from this process's start until now, by the kernel's own record of the start (its
/// ticks are 10 ms).
double process_age_ms();

}  // namespace kn::tool
