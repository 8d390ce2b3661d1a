# kn_embed_kernels(TARGET FILES...): the text of .cu files as data of a library, found by name with
# kernel_text() (kn-cuda-eval/src/codegen/kernel_text.h).
function(kn_embed_kernels target)
    set(rows)
    foreach(file IN LISTS ARGN)
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
        cmake_path(GET file STEM name)
        file(READ ${file} text)
        string(APPEND rows "    {\"${name}\", R\"kn_text(${text})kn_text\"},\n")
    endforeach()
    set(out ${CMAKE_CURRENT_BINARY_DIR}/kernel_text.cpp)
    file(CONFIGURE OUTPUT ${out} @ONLY CONTENT [[#include "codegen/kernel_text.h"

#include <map>

#include <kn/graph/error.h>

namespace kn::cuda {

std::string_view kernel_text(std::string_view name) {
    static const std::map<std::string_view, std::string_view> texts = {
@rows@    };
    auto found = texts.find(name);
    KN_CHECK(found != texts.end());
    return found->second;
}

}  // namespace kn::cuda
]])
    target_sources(${target} PRIVATE ${out})
endfunction()
