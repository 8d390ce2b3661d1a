# kn_onnx_proto: ONNX's messages, generated from the pinned wheel for protobuf's lite runtime.
#     #include "kn_onnx.pb.h"        kn::onnx_pb::ModelProto, TensorProto, ...
#     #include "kn_onnx_data.pb.h"   kn::onnx_pb::SequenceProto, OptionalProto, ...
# Package and files are renamed and all symbols hidden, so that a host with its own ONNX or protobuf
# is safe.
find_program(KN_PROTOC protoc REQUIRED)
find_library(KN_PROTOBUF_ARCHIVE libprotobuf-lite.a REQUIRED)

set(out ${CMAKE_CURRENT_BINARY_DIR}/onnx)
function(kn_rename_proto from to)
    file(READ ${wheels}/onnx/${from} text)
    string(REPLACE "package onnx;" "package kn.onnx_pb;" text "${text}")
    string(REPLACE "\"onnx/onnx-ml.proto\"" "\"kn_onnx.proto\"" text "${text}")
    file(CONFIGURE OUTPUT ${out}/${to} CONTENT "${text}" @ONLY)
endfunction()
kn_rename_proto(onnx-ml.proto kn_onnx.proto)
kn_rename_proto(onnx-data.proto kn_onnx_data.proto)
add_custom_command(
    OUTPUT ${out}/kn_onnx.pb.cc ${out}/kn_onnx.pb.h
           ${out}/kn_onnx_data.pb.cc ${out}/kn_onnx_data.pb.h
    COMMAND ${KN_PROTOC} --proto_path=${out} --cpp_out=lite:${out} kn_onnx.proto kn_onnx_data.proto
    DEPENDS ${out}/kn_onnx.proto ${out}/kn_onnx_data.proto
    VERBATIM)

# Into programs the archive; the distributions do not build it for shared objects, which take the
# shared one.
kn_import(kn_protobuf_lite EXECUTABLE ${KN_PROTOBUF_ARCHIVE})
target_link_libraries(kn_protobuf_lite INTERFACE
    $<$<NOT:$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>>:protobuf-lite>)
target_link_libraries(kn_protobuf_lite INTERFACE Threads::Threads)
kn_add_private(kn_onnx_proto ${out}/kn_onnx.pb.cc ${out}/kn_onnx_data.pb.cc)
target_include_directories(kn_onnx_proto SYSTEM PUBLIC $<BUILD_INTERFACE:${out}>)
target_link_libraries(kn_onnx_proto PUBLIC kn_protobuf_lite)
