# What every target of kn has in common.

# kn_add_options(TARGET): language level, warnings, visibility.
function(kn_add_options target)
    target_compile_features(${target} PUBLIC cxx_std_20)
    target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow
                           $<$<BOOL:${KN_WERROR}>:-Werror>)
    set_target_properties(${target} PROPERTIES
        CXX_EXTENSIONS OFF
        CXX_VISIBILITY_PRESET hidden
        VISIBILITY_INLINES_HIDDEN ON
        POSITION_INDEPENDENT_CODE ON)
endfunction()

# kn_add_library(SUFFIX): library kn_SUFFIX with alias kn::SUFFIX out of include/ and src/ of the
# current folder.
function(kn_add_library suffix)
    set(target kn_${suffix})
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/*.cpp)
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/include/*.h)
    add_library(${target} ${sources} ${headers})
    add_library(kn::${suffix} ALIAS ${target})
    kn_add_options(${target})
    target_include_directories(${target}
        PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
        PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
    set_target_properties(${target} PROPERTIES
        EXPORT_NAME ${suffix}
        DEFINE_SYMBOL ""
        # Installed libraries find each other, and CUDA's where they were found.
        INSTALL_RPATH $ORIGIN
        INSTALL_RPATH_USE_LINK_PATH ON
        VERSION ${PROJECT_VERSION}
        SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    set_property(GLOBAL APPEND PROPERTY KN_LIBRARIES ${target})
    set_property(GLOBAL APPEND PROPERTY KN_INCLUDE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include)
endfunction()

# kn_add_tool(NAME SOURCES...): a program in build/.../bin.
function(kn_add_tool name)
    add_executable(${name} ${ARGN})
    kn_add_options(${name})
endfunction()
