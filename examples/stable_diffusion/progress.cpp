#include "stable_diffusion/progress.h"

#include <unistd.h>

#include <cstdio>

#include <fmt/core.h>

namespace sd {

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressBar::show(std::size_t done, std::size_t of) {
    if (done == 0) {
        start_ = std::chrono::steady_clock::now();
        last_tenth_ = 0;
        if (!terminal_) return;
    }
    const std::size_t tenth = done * 10 / of;
    if (!terminal_ && tenth == last_tenth_ && done < of) return;
    last_tenth_ = tenth;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double each = done > 0 ? seconds / static_cast<double>(done) : 0;
    constexpr std::size_t width = 24;
    const std::size_t full = done * width / of;
    const std::string line =
        fmt::format("[{}{}] {} {}/{}  {:.3f} s/step  {:.1f} s left", std::string(full, '#'),
                    std::string(width - full, '.'), what_, done, of, each,
                    each * static_cast<double>(of - done));
    if (terminal_)
        fmt::print(stderr, "\r\x1b[K{}{}", line, done == of ? "\n" : "");
    else
        fmt::print(stderr, "{}\n", line);
    std::fflush(stderr);
}

}  // namespace sd
