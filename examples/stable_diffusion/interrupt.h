// Ctrl-C: one line and status 130, but never in the middle of a file.
//
//     sd::catch_interrupts("stable_diffusion");
//     { const sd::WhileWriting guard; common::write_file(...); }   // an interrupt waits for its
//     end
#pragma once

namespace sd {

/// From now on SIGINT and SIGTERM end the process with a line "NAME: interrupted". `name` must live
/// on.
void catch_interrupts(const char* name);

/// Interrupts wait while one lives; the last to go carries them out.
class WhileWriting {
  public:
    WhileWriting();
    ~WhileWriting();
    WhileWriting(const WhileWriting&) = delete;
    WhileWriting& operator=(const WhileWriting&) = delete;
};

}  // namespace sd
