# kn_openblas: the serial static OpenBLAS. kn brings its own threads; the pthread build's thread
# count is a process-wide setting that a library must not touch.
find_library(KN_OPENBLAS_ARCHIVE libopenblas.a REQUIRED
             PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_DEFAULT_PATH)
find_path(KN_CBLAS_INCLUDE cblas.h REQUIRED
          PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_DEFAULT_PATH)

# The serial build hands one work buffer to two threads that ask at the same moment: the lock in its
# blas_memory_alloc covers only the first initialisation. kn_openblas_memory is that object with the
# function renamed; kn-graph/src/cpu/gemm.cpp puts a lock around it. It comes before OpenBLAS, whose
# own is then not taken.
set(dir ${CMAKE_CURRENT_BINARY_DIR}/openblas)
set(memory ${dir}/libkn_openblas_memory.a)
file(MAKE_DIRECTORY ${dir})
execute_process(COMMAND ${CMAKE_AR} x ${KN_OPENBLAS_ARCHIVE} memory.o
                WORKING_DIRECTORY ${dir} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_OBJCOPY} ${dir}/memory.o
                        --redefine-sym blas_memory_alloc=kn_openblas_memory_alloc
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_AR} rcs ${memory} ${dir}/memory.o COMMAND_ERROR_IS_FATAL ANY)

kn_import(kn_openblas ${memory} ${KN_OPENBLAS_ARCHIVE})
target_include_directories(kn_openblas SYSTEM INTERFACE $<BUILD_INTERFACE:${KN_CBLAS_INCLUDE}>)
target_link_libraries(kn_openblas INTERFACE m)
