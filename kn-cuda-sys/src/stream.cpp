#include "kn/cuda_sys/stream.h"

#include <algorithm>
#include <utility>

#include "check.h"
#include "kn/cuda_sys/event.h"
#include "release.h"

namespace kn::cuda {

void StreamRef::synchronize() const {
    DeviceGuard guard(device_);
    KN_CUDA_CHECK(cudaStreamSynchronize(handle_));
}

bool StreamRef::done() const {
    DeviceGuard guard(device_);
    cudaError_t status = cudaStreamQuery(handle_);
    if (status == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    detail::check(status, "cudaStreamQuery(stream)", __FILE__, __LINE__);
    return true;
}

void StreamRef::wait(const Event& event) const {
    DeviceGuard guard(device_);
    KN_CUDA_CHECK(cudaStreamWaitEvent(handle_, event.handle(), 0));
}

bool StreamRef::capturing() const {
    DeviceGuard guard(device_);
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    KN_CUDA_CHECK(cudaStreamIsCapturing(handle_, &status));
    return status != cudaStreamCaptureStatusNone;
}

Stream::Stream(Device device, int priority) : StreamRef(device, nullptr) {
    DeviceGuard guard(device);
    int lowest = 0, highest = 0;
    KN_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    priority = std::clamp(priority, highest, lowest);
    KN_CUDA_CHECK(cudaStreamCreateWithPriority(&handle_, cudaStreamNonBlocking, priority));
}

Stream::~Stream() {
    if (handle_) detail::release_on(device_, [this] { cudaStreamDestroy(handle_); });
}

Stream::Stream(Stream&& other) noexcept
    : StreamRef(other.device_, std::exchange(other.handle_, nullptr)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
}

Event::Event(Device device, Timing timing) : device_(device) {
    DeviceGuard guard(device);
    unsigned flags = timing == Timing::On ? cudaEventDefault : cudaEventDisableTiming;
    KN_CUDA_CHECK(cudaEventCreateWithFlags(&handle_, flags));
}

Event::~Event() {
    if (handle_) detail::release_on(device_, [this] { cudaEventDestroy(handle_); });
}

Event::Event(Event&& other) noexcept
    : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
}

void Event::record(StreamRef stream) const {
    KN_CUDA_REQUIRE(stream.device() == device_, "Event::record",
                    "the event is of device {}, the stream of device {}", device_.index(),
                    stream.device().index());
    DeviceGuard guard(device_);
    KN_CUDA_CHECK(cudaEventRecord(handle_, stream.handle()));
}

void Event::synchronize() const {
    DeviceGuard guard(device_);
    KN_CUDA_CHECK(cudaEventSynchronize(handle_));
}

bool Event::done() const {
    DeviceGuard guard(device_);
    cudaError_t status = cudaEventQuery(handle_);
    if (status == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    detail::check(status, "cudaEventQuery(event)", __FILE__, __LINE__);
    return true;
}

float elapsed_ms(const Event& start, const Event& stop) {
    DeviceGuard guard(start.device());
    float ms = 0;
    KN_CUDA_CHECK(cudaEventElapsedTime(&ms, start.handle(), stop.handle()));
    return ms;
}

}  // namespace kn::cuda
