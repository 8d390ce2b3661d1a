#include "stable_diffusion/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace sd {

namespace {

std::atomic<int> writing{0};
std::atomic<int> pending{0};
const char* program = "";
const char* line_start = "";  // off the progress bar's line

// Only calls that a signal handler may make.
[[noreturn]] void end(int signal) {
    const char* parts[] = {line_start, program, ": interrupted\n"};
    for (const char* part : parts)
        if (::write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
    ::_exit(128 + signal);
}

void handle(int signal) {
    if (writing.load() > 0)
        pending = signal;
    else
        end(signal);
}

}  // namespace

void catch_interrupts(const char* name) {
    program = name;
    if (::isatty(STDERR_FILENO)) line_start = "\n";
    struct sigaction action = {};
    action.sa_handler = handle;
    sigemptyset(&action.sa_mask);
    for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

WhileWriting::WhileWriting() { writing++; }

WhileWriting::~WhileWriting() {
    if (--writing == 0)
        if (const int signal = pending) end(signal);
}

}  // namespace sd
