// A progress bar on standard error.
//
//     sd::ProgressBar bar("steps");
//     bar.show(0, 20);  ...  bar.show(20, 20);
//
// On a terminal one line is drawn over and over; elsewhere about ten lines are written.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace sd {

class ProgressBar {
  public:
    explicit ProgressBar(std::string what);
    void show(std::size_t done, std::size_t of);

  private:
    std::string what_;
    bool terminal_;
    std::chrono::steady_clock::time_point start_;
    std::size_t last_tenth_ = 0;
};

}  // namespace sd
