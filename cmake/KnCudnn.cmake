# kn_cudnn: cuDNN beside the CUDA toolkit that was found, or no target where there is none.
# Installed too: a static kn::cuda_sys needs it where it is linked.
if(NOT TARGET kn_cudnn)
    find_path(KN_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(KN_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(KN_CUDNN_INCLUDE AND KN_CUDNN_LIBRARY)
        add_library(kn_cudnn INTERFACE IMPORTED)
        target_include_directories(kn_cudnn SYSTEM INTERFACE ${KN_CUDNN_INCLUDE})
        target_link_libraries(kn_cudnn INTERFACE ${KN_CUDNN_LIBRARY})
    endif()
endif()
