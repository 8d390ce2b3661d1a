# kn_fake_driver: libcuda.so.1 without a device, so that cuDNN plans and builds run-time fusions on
# machines without a driver. Only tests load it, through LD_LIBRARY_PATH; nothing links it.
get_target_property(cudart CUDA::cudart IMPORTED_LOCATION)
cmake_path(GET cudart PARENT_PATH cuda_lib)
find_library(KN_CUDA_STUB cuda NO_DEFAULT_PATH
             PATHS ${cuda_lib}/stubs ${cuda_lib}/../lib64/stubs ${cuda_lib}/../lib/stubs)
if(NOT KN_CUDA_STUB)
    message(STATUS "kn: no stub of libcuda, run-time fusions are tested with a driver only")
    return()
endif()
set(source ${CMAKE_CURRENT_BINARY_DIR}/fake_driver.cpp)
add_custom_command(OUTPUT ${source}
    COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/make.sh ${KN_CUDA_STUB} ${source}
    DEPENDS ${CMAKE_CURRENT_LIST_DIR}/make.sh VERBATIM)
add_library(kn_fake_driver SHARED ${source})
set_target_properties(kn_fake_driver PROPERTIES
    OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fake_driver)

# kn_add_fake_driver_test(TARGET FILTER): runs the tests of FILTER once more, with the fake driver.
function(kn_add_fake_driver_test target filter)
    add_dependencies(${target} kn_fake_driver)
    add_test(NAME ${target}.fake_driver COMMAND ${target} --gtest_filter=${filter})
    set_tests_properties(${target}.fake_driver PROPERTIES TIMEOUT 600 ENVIRONMENT_MODIFICATION
        LD_LIBRARY_PATH=path_list_prepend:${CMAKE_BINARY_DIR}/fake_driver)
endfunction()
