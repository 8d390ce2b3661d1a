#include "guarded.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <utility>

namespace kn::cuda {

namespace {

sigjmp_buf way_out;
volatile sig_atomic_t inside = 0;

void on_fault(int number) {
    if (inside) siglongjmp(way_out, 1);
    signal(number, SIG_DFL);  // not ours: happens again, for good
}

}  // namespace

GuardedMemory::GuardedMemory(std::size_t bytes, bool flush_end) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = (bytes + page - 1) / page * page;
    mapped_ = used + 2 * page;
    pages_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages_ == MAP_FAILED) throw std::bad_alloc();
    std::byte* const first = static_cast<std::byte*>(pages_) + page;
    if (used > 0 && mprotect(first, used, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    data_ = flush_end ? first + (used - (bytes + 15) / 16 * 16) : first;
    std::memset(first, 0xff, used);
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept
    : pages_(std::exchange(other.pages_, nullptr)), mapped_(other.mapped_), data_(other.data_) {}

GuardedMemory::~GuardedMemory() {
    if (pages_) munmap(pages_, mapped_);
}

bool stays_inside(const std::function<void()>& body) {
    struct Watch {
        struct sigaction before;
        Watch() {
            struct sigaction action {};
            action.sa_handler = on_fault;
            sigaction(SIGSEGV, &action, &before);
            inside = 1;
        }
        ~Watch() {
            inside = 0;
            sigaction(SIGSEGV, &before, nullptr);
        }
    };
    const Watch watch;
    if (sigsetjmp(way_out, 1) != 0) return false;
    body();
    return true;
}

}  // namespace kn::cuda
