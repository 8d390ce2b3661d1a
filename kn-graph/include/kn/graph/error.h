// The exceptions of kn-graph: who is at fault, and a message that names the culprit.
//
//     try {
//         kn::Graph graph = kn::load_onnx("net.onnx");
//     } catch (const kn::OnnxError& error) {
//         if (error.kind() == kn::OnnxError::Kind::Unsupported) std::puts(error.what());
//     }
#pragma once

#include <stdexcept>
#include <string>

#include <kn/graph/export.h>

namespace kn {

/// Base of all exceptions that kn throws on purpose.
class KN_API Error : public std::runtime_error {
  public:
    explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// The caller asked for something that cannot be: a shape that does not fit, a wrong dtype, a
/// missing input.
class KN_API GraphError : public Error {
  public:
    using Error::Error;
};

/// A model cannot be loaded; the message lists every problem, one a line, with node name, operator
/// and reason.
class KN_API OnnxError : public Error {
  public:
    enum class Kind {
        BrokenFile,   ///< the file breaks the format's rules
        Unsupported,  ///< the file may be valid, but kn has no such feature
    };
    OnnxError(Kind kind, const std::string& message) : Error(message), kind_(kind) {}
    Kind kind() const { return kind_; }

  private:
    Kind kind_;
};

/// A mistake of kn itself. Please report it.
class KN_API InternalError : public Error {
  public:
    using Error::Error;
};

/// Throws InternalError with the place and the condition; `detail` may be empty.
[[noreturn]] KN_API void throw_internal(const char* file, int line, const char* condition,
                                        const std::string& detail);

/// Makes text from an untrusted file safe for a terminal: control characters become `\xNN`, long
/// text is cut.
KN_API std::string printable(const std::string& text, std::size_t max_length = 200);

}  // namespace kn

/// Checks something that only a mistake of kn can break; the message is built on failure only.
#define KN_CHECK(condition, ...)                                                            \
    do {                                                                                    \
        if (!(condition)) [[unlikely]]                                                      \
            ::kn::throw_internal(__FILE__, __LINE__, #condition, std::string(__VA_ARGS__)); \
    } while (false)
