# kn_cudnn and kn_nvrtc: cuDNN and NVRTC beside the CUDA toolkit that was found, or no target where there is none.
# Installed too: a static kn::cuda_sys needs it where it is linked.
if(NOT TARGET kn_cudnn)
    find_path(KN_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(KN_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(KN_CUDNN_INCLUDE AND KN_CUDNN_LIBRARY)
        add_library(kn_cudnn INTERFACE IMPORTED)
        target_include_directories(kn_cudnn SYSTEM INTERFACE ${KN_CUDNN_INCLUDE})
        target_link_libraries(kn_cudnn INTERFACE ${KN_CUDNN_LIBRARY})

        # NVRTC by its file: the target CUDA::nvrtc links libcuda, and programs would not start without a driver.
        get_target_property(nvrtc CUDA::nvrtc IMPORTED_LOCATION)
        add_library(kn_nvrtc INTERFACE IMPORTED)
        target_link_libraries(kn_nvrtc INTERFACE ${nvrtc})
    endif()
endif()
