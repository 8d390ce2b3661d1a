// How GoogleTest names kn's types in the parameters of a test.
//
//     kn::PrintTo(kn::DType::F16, &std::cout);   // "f16", as in a test's "GetParam() = f16"
#pragma once

#include <ostream>

#include <kn/graph/device.h>
#include <kn/graph/dtype.h>

namespace kn {

inline void PrintTo(DType dtype, std::ostream* out) { *out << name_of(dtype); }
inline void PrintTo(Precision precision, std::ostream* out) { *out << name_of(precision); }

}  // namespace kn
