# kn_openblas: the serial static OpenBLAS. kn brings its own threads; the pthread build's thread count is a
# process-wide setting that a library must not touch.
find_library(KN_OPENBLAS_ARCHIVE libopenblas.a REQUIRED
             PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_DEFAULT_PATH)
find_path(KN_CBLAS_INCLUDE cblas.h REQUIRED
          PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_DEFAULT_PATH)

kn_import(kn_openblas ${KN_OPENBLAS_ARCHIVE})
target_include_directories(kn_openblas SYSTEM INTERFACE $<BUILD_INTERFACE:${KN_CBLAS_INCLUDE}>)
target_link_libraries(kn_openblas INTERFACE m)
