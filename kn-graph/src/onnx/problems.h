// The problems of a model: collected while it is read, raised as one OnnxError.
//
//     Problems problems;
//     problems.guard("node 'a' (Conv)", [&] { ... fail(OnnxError::Kind::BrokenFile, "stride is 0");
//     }); problems.raise_if_any("net.onnx");
#pragma once

#include <set>
#include <string>
#include <vector>

#include <kn/graph/error.h>

namespace kn::onnx {

using Kind = OnnxError::Kind;

/// What is wrong with the piece of the file at hand. Thrown where it is seen, caught by
/// Problems::guard. Not a kn::Error, so that nobody else catches it.
struct Failure {
    Kind kind;
    std::string reason;
    std::vector<std::string> inputs;  ///< graph inputs whose value would help (NeedsValues)
};

[[noreturn]] void fail_broken(const std::string& reason);
[[noreturn]] void fail_unsupported(const std::string& reason);

class Problems {
  public:
    void add(const std::string& where, Failure failure);
    /// Runs f; a Failure, a GraphError (sizes and types that do not fit) or a lack of memory
    /// becomes a problem of `where`. Says whether f came through.
    template <class F>
    bool guard(const std::string& where, F&& f) {
        try {
            f();
            return true;
        } catch (const Failure& failure) {
            add(where, failure);
        } catch (const GraphError& error) {
            add(where, {Kind::BrokenFile, error.what(), {}});
        } catch (const std::bad_alloc&) {
            add(where, {Kind::Unsupported, "it needs more memory than there is", {}});
        }
        return false;
    }

    bool empty() const { return lines_.empty(); }
    std::vector<std::string> lines() const;
    /// Throws NeedsValues if nothing else is wrong, else OnnxError; one line a problem.
    void raise_if_any() const;

  private:
    struct Line {
        std::string text;
        Failure failure;
    };
    std::vector<Line> lines_;
    std::set<std::string> seen_;
};

}  // namespace kn::onnx
