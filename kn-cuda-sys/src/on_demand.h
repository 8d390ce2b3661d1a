// Libraries of the toolkit that are opened by their first use: programs start fast without them,
// and run where one is missing. Internal.
#pragma once

#include <string>

#include "kn/cuda_sys/error.h"

namespace kn::cuda::detail {

struct LibraryName {
    ErrorSource source;
    const char* title;  ///< in messages
    const char* file;
    const char* wheel;  ///< its folder where pip installs the toolkit in parts
};

/// An open library; it stays open, so that functions outlive everything.
class OpenLibrary {
  public:
    /// Asks the loader, then looks beside cudart and where the library was at build time. Throws
    /// LibraryMissing.
    explicit OpenLibrary(const LibraryName& name);

    const LibraryName& name() const noexcept { return name_; }
    /// Null where the library has no such function.
    void* find(const char* function) const noexcept;
    /// Opens a library that this one opens by itself, in its folder first. Throws LibraryMissing.
    void open_part(const char* file) const;

  private:
    const LibraryName& name_;
    void* handle_ = nullptr;
};

[[noreturn]] void missing_function(const LibraryName& library, const char* function);

/// A function of such a library, called like the one of the header.
template <class F>
class Function;
template <class R, class... A>
class Function<R(A...)> {
  public:
    Function(const OpenLibrary& library, const char* name)
        : library_(library.name()),
          name_(name),
          address_(reinterpret_cast<R (*)(A...)>(library.find(name))) {}
    R operator()(A... arguments) const {
        if (!address_) missing_function(library_, name_);
        return address_(arguments...);
    }

  private:
    const LibraryName& library_;
    const char* name_;
    R (*address_)(A...);
};

/// Member of a class derived from OpenLibrary: the function of this name.
#define KN_FUNCTION(name_of) \
    Function<decltype(::name_of)> name_of { *this, #name_of }

}  // namespace kn::cuda::detail
