// Where and in which arithmetic a network runs.
//
//     kn::Device device = kn::Device::best();   // with <kn/kn.h>: a GPU, where there is one
#pragma once

#include <string>

#include <kn/graph/export.h>

namespace kn {

/// Arithmetic for models of float32. A model that is half already keeps its types, except under
/// F64.
enum class Precision {
    F32,   ///< float32 throughout
    F64,   ///< every float in double: the CPU's reference
    TF32,  ///< float32 with matrix products in TF32; the CPU imitates it, slower than float32
    F16,
    BF16,
};
/// "f32"
KN_API std::string name_of(Precision precision);

/// How much time preparing for a GPU may take to find the fastest of the vendor's algorithms. What
/// is found is kept on disk for the next process.
enum class Tuning {
    None,  ///< the first that the vendor's libraries suggest
    Fast,  ///< the best of a few, timed
    Full,  ///< the best of many: seconds to minutes
};

class KN_API Device {
  public:
    enum class Kind { Cpu, Cuda };

    /// Names of devices; whether there is such a one shows when it is used (DeviceError).
    static Device cpu() { return Device(Kind::Cpu, 0); }
    static Device cuda(int index = 0) { return Device(Kind::Cuda, index); }
    /// The GPU with the most free memory, or the CPU where there is none. Never throws.
    static Device best();

    Kind kind() const { return kind_; }
    int index() const { return index_; }
    /// "cpu", "cuda:0"
    std::string to_string() const;
    bool operator==(const Device&) const = default;

  private:
    Device(Kind kind, int index) : kind_(kind), index_(index) {}
    Kind kind_;
    int index_;
};

}  // namespace kn
